"""Templates about files, folders and links."""

from __future__ import annotations

from ludora.envs.shell.templates.base import Template

FILES = (
    Template(
        "touch-file",
        1,
        "touch",
        ("Create an empty file /srv/@file.", "Make a new empty file called /srv/@file."),
        "touch /srv/@file",
        "[ -f /srv/@file ] && [ ! -s /srv/@file ]",
    ),
    Template(
        "touch-two",
        1,
        "touch",
        ("Create the empty files /srv/@file and /srv/@file2.", "Make two empty files: /srv/@file and /srv/@file2."),
        "touch /srv/@file /srv/@file2",
        "[ -f /srv/@file ] && [ -f /srv/@file2 ] && [ ! -s /srv/@file ] && [ ! -s /srv/@file2 ]",
        held_out=True,
    ),
    Template(
        "mkdir-one",
        1,
        "mkdir",
        ("Make a directory /srv/@dir.", "Create a folder called /srv/@dir."),
        "mkdir /srv/@dir",
        "[ -d /srv/@dir ]",
    ),
    Template(
        "mkdir-nested",
        1,
        "mkdir",
        (
            "Create the folder /srv/@dir/@dir2; /srv/@dir does not exist yet.",
            "Make the nested directory /srv/@dir/@dir2.",
        ),
        "mkdir -p /srv/@dir/@dir2",
        "[ -d /srv/@dir/@dir2 ]",
    ),
    Template(
        "rm-file",
        1,
        "rm",
        ("Delete the file /srv/@file.", "Remove /srv/@file."),
        "rm /srv/@file",
        "[ ! -e /srv/@file ] && [ -f /srv/@file2 ]",
        setup="echo @word > @file; echo @word > @file2",
    ),
    Template(
        "rm-folder",
        1,
        "rm",
        ("Delete the directory /srv/@dir and all that is in it.", "Remove the folder /srv/@dir with its contents."),
        "rm -r /srv/@dir",
        "[ ! -e /srv/@dir ] && [ -d /srv/@dir2 ]",
        setup="mkdir -p @dir/deep @dir2; touch @dir/deep/@file",
    ),
    Template(
        "cp-file",
        1,
        "cp",
        ("Copy /srv/@file to /srv/@file2.", "Make a copy of /srv/@file named /srv/@file2."),
        "cp /srv/@file /srv/@file2",
        "[ -f /srv/@file ] && [ \"$(cat /srv/@file2)\" = '@word @word2' ]",
        setup="echo '@word @word2' > @file",
    ),
    Template(
        "cp-folder",
        1,
        "cp",
        ("Copy the directory /srv/@dir to /srv/@dir2.", "Make a copy of the folder /srv/@dir named /srv/@dir2."),
        "cp -r /srv/@dir /srv/@dir2",
        '[ "$(cat /srv/@dir2/@file)" = @word ] && [ "$(cat /srv/@dir/@file)" = @word ]',
        setup="mkdir @dir; echo @word > @dir/@file",
        held_out=True,
    ),
    Template(
        "mv-into",
        1,
        "mv",
        ("Move /srv/@file into the directory /srv/@dir.", "Move the file /srv/@file to the folder /srv/@dir."),
        "mv /srv/@file /srv/@dir/",
        '[ ! -e /srv/@file ] && [ "$(cat /srv/@dir/@file)" = @word ]',
        setup="mkdir @dir; echo @word > @file",
    ),
    Template(
        "mv-rename",
        1,
        "mv",
        ("Rename /srv/@file to /srv/@file2.", "Change the name of /srv/@file to /srv/@file2."),
        "mv /srv/@file /srv/@file2",
        '[ ! -e /srv/@file ] && [ "$(cat /srv/@file2)" = @word ]',
        setup="echo @word > @file",
        held_out=True,
    ),
    Template(
        "ln-symbolic",
        1,
        "ln",
        ("Make a symbolic link /srv/@file2 that points to /srv/@file.", "Create a symlink /srv/@file2 to /srv/@file."),
        "ln -s /srv/@file /srv/@file2",
        '[ -L /srv/@file2 ] && [ "$(readlink -f /srv/@file2)" = /srv/@file ]',
        setup="echo @word > @file",
    ),
    Template(
        "ln-hard",
        1,
        "ln",
        (
            "Make a hard link /srv/@file2 to /srv/@file.",
            "Give the file /srv/@file the second name /srv/@file2, a hard link.",
        ),
        "ln /srv/@file /srv/@file2",
        "[ ! -L /srv/@file2 ] && [ /srv/@file -ef /srv/@file2 ]",
        setup="echo @word > @file",
    ),
    Template(
        "find-names",
        1,
        "find",
        (
            "Find all .log files under /srv/@dir and save their paths in /srv/@file.",
            "Write the paths of all .log files below /srv/@dir to /srv/@file.",
        ),
        "find /srv/@dir -name '*.log' > /srv/@file",
        "names=/srv/@dir/@word.log$'\\n'/srv/@dir/deep/@word2.log; "
        '[ "$(sort /srv/@file)" = "$names" ] || [ "$(sort -r /srv/@file)" = "$names" ]',
        setup="mkdir -p @dir/deep; touch @dir/@word.log @dir/deep/@word2.log @dir/@word.txt",
    ),
    Template(
        "find-delete",
        1,
        "find",
        ("Delete every .tmp file below /srv/@dir.", "Remove all .tmp files under /srv/@dir, in all its folders."),
        "find /srv/@dir -name '*.tmp' -delete",
        "[ ! -e /srv/@dir/@word.tmp ] && [ ! -e /srv/@dir/deep/@word2.tmp ] && [ -f /srv/@dir/@word.txt ]",
        setup="mkdir -p @dir/deep; touch @dir/@word.tmp @dir/deep/@word2.tmp @dir/@word.txt",
    ),
    Template(
        "find-folders",
        1,
        "find",
        (
            "Write the paths of all directories below /srv/@dir, and its own, to /srv/@file.",
            "Save a list of /srv/@dir and all folders in it to /srv/@file, one path per line.",
        ),
        "find /srv/@dir -type d > /srv/@file",
        'names=$(find /srv/@dir -type d | sort) && [ -n "$names" ] && [ "$(sort /srv/@file)" = "$names" ] '
        "&& grep -q @word /srv/@file",
        setup="mkdir -p @dir/@word/deep @dir/@word2; touch @dir/@word2/x",
        held_out=True,
    ),
    Template(
        "ls-save",
        1,
        "ls",
        (
            "Save the names of the files in /srv/@dir to /srv/@file.",
            "List the folder /srv/@dir into the file /srv/@file.",
        ),
        "ls /srv/@dir > /srv/@file",
        'names=$(ls /srv/@dir) && [ "$(cat /srv/@file)" = "$names" ] && grep -q @word /srv/@file',
        setup="mkdir @dir; touch @dir/@word @dir/@word2 @dir/@word3",
    ),
    Template(
        "cd-mkdir",
        2,
        "cd mkdir touch",
        (
            "Make the directory /srv/@dir, go into it, and create the empty file @file there.",
            "Create the folder /srv/@dir; change into it and make an empty file @file.",
        ),
        "mkdir /srv/@dir && cd /srv/@dir && touch @file",
        "[ -f /srv/@dir/@file ]",
    ),
    Template(
        "cd-relative-link",
        2,
        "cd ln",
        (
            "In the directory /srv/@dir, make a relative symbolic link @file2 to the file @file beside it.",
            "Go to /srv/@dir and create a symlink @file2 whose target is just @file.",
        ),
        "cd /srv/@dir && ln -s @file @file2",
        '[ "$(readlink /srv/@dir/@file2)" = @file ]',
        setup="mkdir @dir; echo @word > @dir/@file",
    ),
    Template(
        "cd-rename-all",
        2,
        "cd mv",
        (
            "In /srv/@dir, rename @file to @word and @file2 to @word2.",
            "Go to /srv/@dir; there, @file is to be called @word, and @file2 is to be called @word2.",
        ),
        "cd /srv/@dir && mv @file @word && mv @file2 @word2",
        "[ \"$(cat /srv/@dir/@word /srv/@dir/@word2)\" = $'one\\ntwo' ] && [ ! -e /srv/@dir/@file ]",
        setup="mkdir @dir; echo one > @dir/@file; echo two > @dir/@file2",
        held_out=True,
    ),
    Template(
        "cp-then-rm",
        2,
        "cp mkdir rm",
        (
            "Copy /srv/@file into a new directory /srv/@dir, then delete /srv/@file2.",
            "Make the folder /srv/@dir, put a copy of /srv/@file in it, and remove /srv/@file2.",
        ),
        "mkdir /srv/@dir && cp /srv/@file /srv/@dir/ && rm /srv/@file2",
        '[ "$(cat /srv/@dir/@file)" = @word ] && [ -f /srv/@file ] && [ ! -e /srv/@file2 ]',
        setup="echo @word > @file; echo old > @file2",
    ),
    Template(
        "mv-by-ending",
        2,
        "mkdir mv",
        (
            "Make the directory /srv/@dir2 and move all .log files of /srv/@dir into it.",
            "All .log files in /srv/@dir belong into a new folder /srv/@dir2; move them.",
        ),
        "mkdir /srv/@dir2 && mv /srv/@dir/*.log /srv/@dir2/",
        "[ -f /srv/@dir2/@word.log ] && [ -f /srv/@dir2/@word2.log ] && [ ! -e /srv/@dir/@word.log ] "
        "&& [ -f /srv/@dir/@word.txt ]",
        setup="mkdir @dir; touch @dir/@word.log @dir/@word2.log @dir/@word.txt",
    ),
    Template(
        "ls-count",
        2,
        "ls wc",
        (
            "Count the entries of /srv/@dir and write the number to /srv/@file.",
            "Write into /srv/@file how many files there are in the folder /srv/@dir.",
        ),
        "ls /srv/@dir | wc -l > /srv/@file",
        '[ "$(tr -d " " < /srv/@file)" = @n ]',
        setup="mkdir @dir; for i in $(seq @n); do touch @dir/@word$i; done",
    ),
    Template(
        "find-largest",
        2,
        "find cp",
        (
            "Below /srv/@dir one file is larger than 1 kilobyte. Copy it to /srv/@file.",
            "Copy the only file under /srv/@dir of more than 1000 bytes to /srv/@file.",
        ),
        "find /srv/@dir -type f -size +1000c -exec cp {} /srv/@file ';'",
        "[ \"$(head -c 7 /srv/@file)\" = 'payload' ] && [ -f /srv/@dir/deep/@word ]",
        setup="mkdir -p @dir/deep; echo x > @dir/@word2; (printf payload; head -c 2000 /dev/zero) > @dir/deep/@word",
    ),
    Template(
        "find-empty",
        2,
        "find rm",
        (
            "Remove all empty files below /srv/@dir and keep the others.",
            "Under /srv/@dir, delete the files that have no content, and only those.",
        ),
        "find /srv/@dir -type f -empty -exec rm {} ';'",
        "[ ! -e /srv/@dir/@file ] && [ ! -e /srv/@dir/deep/@word ] && [ -s /srv/@dir/@file2 ]",
        setup="mkdir -p @dir/deep; touch @dir/@file @dir/deep/@word; echo x > @dir/@file2",
    ),
    Template(
        "tree-of-project",
        3,
        "cd echo mkdir touch ln",
        (
            "Set up a project in /srv/@dir: folders bin and lib, an empty file lib/@file, a file @file2 that "
            "contains the "
            "word @word, and a symbolic link bin/@word to ../@file2.",
        ),
        "mkdir -p /srv/@dir/bin /srv/@dir/lib && cd /srv/@dir && touch lib/@file && echo @word > @file2 "
        "&& ln -s ../@file2 bin/@word",
        '[ -d /srv/@dir/bin ] && [ -f /srv/@dir/lib/@file ] && [ "$(cat /srv/@dir/bin/@word)" = @word ] '
        "&& [ -L /srv/@dir/bin/@word ]",
    ),
    Template(
        "rotate-logs",
        3,
        "cd mv touch chmod",
        (
            "Rotate the log /srv/@dir/@word.log: @word.log.1 becomes @word.log.2, @word.log becomes @word.log.1, and "
            "a new "
            "empty @word.log has mode 600.",
        ),
        "cd /srv/@dir && mv @word.log.1 @word.log.2 && mv @word.log @word.log.1 && touch @word.log && chmod 600 "
        "@word.log",
        'cd /srv/@dir && [ "$(cat @word.log.2)" = old ] && [ "$(cat @word.log.1)" = new ] && [ -f @word.log ] '
        '&& [ ! -s @word.log ] && [ "$(stat -c %a @word.log)" = 600 ]',
        setup="mkdir @dir; echo old > @dir/@word.log.1; echo new > @dir/@word.log",
    ),
    Template(
        "backup-folder",
        3,
        "cp find rm ls",
        (
            "Copy /srv/@dir to /srv/@dir2, remove every .tmp file from the copy, and save the names that are then in "
            "/srv/@dir2 to /srv/@file.",
        ),
        "cp -r /srv/@dir /srv/@dir2 && find /srv/@dir2 -name '*.tmp' -exec rm {} ';' && ls /srv/@dir2 > /srv/@file",
        "[ -f /srv/@dir/@word.tmp ] && [ ! -e /srv/@dir2/@word.tmp ] && [ -f /srv/@dir2/@word2.txt ] "
        '&& [ "$(cat /srv/@file)" = @word2.txt ]',
        setup="mkdir @dir; touch @dir/@word.tmp @dir/@word2.txt",
        held_out=True,
    ),
)
