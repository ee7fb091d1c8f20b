"""Templates about owners and modes of files, and about scripts and processes."""

from __future__ import annotations

from ludora.envs.shell.templates.base import Template

RIGHTS = (
    Template(
        "chmod-mode",
        1,
        "chmod",
        ("Set the permissions of /srv/@file to @mode.", "Change the mode of /srv/@file to @mode."),
        "chmod @mode /srv/@file",
        '[ "$(stat -c %a /srv/@file)" = @mode ]',
        setup="echo @word > @file; chmod 601 @file",
    ),
    Template(
        "chmod-run",
        1,
        "chmod",
        ("Make /srv/@script.sh executable.", "Give the script /srv/@script.sh execute permission."),
        "chmod +x /srv/@script.sh",
        "[ -x /srv/@script.sh ]",
        setup="echo ls > @script.sh; chmod 644 @script.sh",
    ),
    Template(
        "chmod-tree",
        1,
        "chmod",
        ("Take all rights of others away from /srv/@dir and all that is in it.",),
        "chmod -R o-rwx /srv/@dir",
        '[ "$(stat -c %a /srv/@dir)" = 750 ] && [ "$(stat -c %a /srv/@dir/@file)" = 640 ]',
        setup="mkdir @dir; touch @dir/@file; chmod 755 @dir; chmod 644 @dir/@file",
        held_out=True,
    ),
    Template(
        "chown-file",
        1,
        "chown",
        ("Make @user the owner of /srv/@file.", "Change the owner of /srv/@file to @user."),
        "chown @user /srv/@file",
        '[ "$(stat -c %U /srv/@file)" = @user ]',
        setup="useradd @user; echo @word > @file",
    ),
    Template(
        "chown-both",
        1,
        "chown",
        (
            "Change the owner of /srv/@file to @user and its group to @group.",
            "Let /srv/@file belong to the user @user and the group @group.",
        ),
        "chown @user:@group /srv/@file",
        '[ "$(stat -c %U:%G /srv/@file)" = @user:@group ]',
        setup="useradd @user; groupadd @group; echo @word > @file",
    ),
    Template(
        "chown-tree",
        1,
        "chown",
        (
            "Make @user the owner of /srv/@dir and of everything in it.",
            "Change the owner of the folder /srv/@dir with all its contents to @user.",
        ),
        "chown -R @user /srv/@dir",
        '[ "$(stat -c %U /srv/@dir)" = @user ] && [ "$(stat -c %U /srv/@dir/deep/@file)" = @user ]',
        setup="useradd @user; mkdir -p @dir/deep; echo @word > @dir/deep/@file",
        held_out=True,
    ),
    Template(
        "chgrp-file",
        1,
        "chgrp",
        ("Change the group of /srv/@file to @group.", "Let /srv/@file belong to the group @group."),
        "chgrp @group /srv/@file",
        '[ "$(stat -c %G /srv/@file)" = @group ]',
        setup="groupadd @group; echo @word > @file",
    ),
    Template(
        "chgrp-folder",
        2,
        "chgrp groupadd mkdir",
        (
            "Create the group @group and a directory /srv/@dir that belongs to this group.",
            "Make a group @group and a folder /srv/@dir, and change the group of the folder to @group.",
        ),
        "groupadd @group && mkdir /srv/@dir && chgrp @group /srv/@dir",
        '[ -d /srv/@dir ] && [ "$(stat -c %G /srv/@dir)" = @group ]',
    ),
    Template(
        "private-file",
        2,
        "chmod echo",
        (
            "Write the word @word to a new file /srv/@file and set its mode to @mode.",
            "Create /srv/@file with the content @word and the permissions @mode.",
        ),
        "echo @word > /srv/@file && chmod @mode /srv/@file",
        '[ "$(cat /srv/@file)" = @word ] && [ "$(stat -c %a /srv/@file)" = @mode ]',
    ),
    Template(
        "drop-box",
        2,
        "chmod chown mkdir",
        (
            "Create the directory /srv/@dir, owned by @user, with mode @mode.",
            "Make a folder /srv/@dir that belongs to @user and has the permissions @mode.",
        ),
        "mkdir /srv/@dir && chown @user /srv/@dir && chmod @mode /srv/@dir",
        '[ -d /srv/@dir ] && [ "$(stat -c %U:%a /srv/@dir)" = @user:@mode ]',
        setup="useradd @user",
    ),
    Template(
        "exit-script",
        2,
        "chmod echo exit",
        (
            "Write an executable script /srv/@script.sh that ends with exit status @n.",
            "Create the script /srv/@script.sh; run by bash, it is to exit with status @n. Make it executable.",
        ),
        "echo 'exit @n' > /srv/@script.sh && chmod +x /srv/@script.sh",
        "[ -x /srv/@script.sh ] || exit 1; bash /srv/@script.sh; [ $? = @n ]",
    ),
    Template(
        "exit-append",
        1,
        "echo exit",
        (
            "Append a line to /srv/@script.sh so that it ends with exit status @n.",
            "Add the line exit @n at the end of the script /srv/@script.sh.",
        ),
        "echo 'exit @n' >> /srv/@script.sh",
        '[ "$(head -n 1 /srv/@script.sh)" = "echo @word" ] || exit 1; bash /srv/@script.sh; [ $? = @n ]',
        setup="echo 'echo @word' > @script.sh",
        held_out=True,
    ),
    Template(
        "exit-check-script",
        3,
        "chmod echo exit grep",
        (
            "Write an executable bash script /srv/@script.sh: it exits with status 0 if /srv/@file contains the word "
            "@word, "
            "and with status @n otherwise.",
        ),
        "echo 'grep -q @word /srv/@file && exit 0; exit @n' > /srv/@script.sh && chmod +x /srv/@script.sh",
        "[ -x /srv/@script.sh ] || exit 1; echo @word > /srv/@file; bash /srv/@script.sh || exit 1; "
        "echo @word2 > /srv/@file; bash /srv/@script.sh; [ $? = @n ]",
        setup="echo @word2 > @file",
    ),
    Template(
        "sleep-background",
        2,
        "echo sleep",
        (
            "Start sleep @days in the background and write its process id to /srv/@file.",
            "Run the command sleep @days in the background; save its process id in /srv/@file.",
        ),
        "sleep @days & echo $! > /srv/@file",
        "tr '\\0' ' ' < /proc/$(cat /srv/@file)/cmdline | grep -q 'sleep @days'",
    ),
    Template(
        "sleep-script",
        2,
        "echo sleep",
        (
            "Write a bash script /srv/@script.sh that sleeps 0.@n seconds and then writes the word @word to "
            "/srv/@file.",
            "Create the script /srv/@script.sh: first sleep 0.@n, then write @word to /srv/@file. Do not run it.",
        ),
        "echo 'sleep 0.@n; echo @word > /srv/@file' > /srv/@script.sh",
        "[ ! -e /srv/@file ] && grep -q 'sleep 0.@n' /srv/@script.sh && bash /srv/@script.sh "
        '&& [ "$(cat /srv/@file)" = @word ]',
    ),
    Template(
        "sleep-stop",
        3,
        "cat sleep rm echo",
        (
            "Stop the process whose id is in /srv/@file, delete that file, start sleep @days in the background "
            "instead, "
            "and write its process id to /srv/@file2.",
        ),
        "kill $(cat /srv/@file); rm /srv/@file; sleep @days & echo $! > /srv/@file2",
        "[ ! -e /srv/@file ] && tr '\\0' ' ' < /proc/$(cat /srv/@file2)/cmdline | grep -q 'sleep @days' "
        "|| exit 1; for c in /proc/*/cmdline; do name=; read -r -d '' name 2> /dev/null < $c; "
        '[ "$name" = @word ] && exit 1; done; exit 0',
        setup="bash -c 'exec -a @word sleep 900' > /dev/null 2>&1 & echo $! > @file",
    ),
    Template(
        "team-folder",
        3,
        "chgrp chmod groupadd mkdir usermod",
        (
            "Create the group @group with the members @user and @user2, and a folder /srv/@dir of that group with "
            "mode 2775, "
            "so that new files in it belong to the group.",
        ),
        "groupadd @group && usermod -aG @group @user && usermod -aG @group @user2 && mkdir /srv/@dir "
        "&& chgrp @group /srv/@dir && chmod 2775 /srv/@dir",
        "id -nG @user | grep -qw @group && id -nG @user2 | grep -qw @group "
        '&& [ "$(stat -c %G:%a /srv/@dir)" = @group:2775 ]',
        setup="useradd @user; useradd @user2",
    ),
    Template(
        "fix-rights",
        3,
        "chmod chown find",
        (
            "Under /srv/@dir, give every directory mode 755 and every file mode 644, and make @user the owner of all "
            "of it.",
        ),
        "find /srv/@dir -type d -exec chmod 755 {} ';' && find /srv/@dir -type f -exec chmod 644 {} ';' "
        "&& chown -R @user /srv/@dir",
        '[ "$(stat -c %a:%U /srv/@dir/@dir2)" = 755:@user ] && [ "$(stat -c %a:%U /srv/@dir/@dir2/@file)" = '
        "644:@user ] "
        '&& [ "$(stat -c %a:%U /srv/@dir)" = 755:@user ]',
        setup="useradd @user; mkdir -p @dir/@dir2; touch @dir/@dir2/@file; chmod 700 @dir @dir/@dir2; "
        "chmod 600 @dir/@dir2/@file",
    ),
    Template(
        "service-account",
        3,
        "chown chsh echo mkdir tee useradd",
        (
            "Create the user @user without a home directory and with the shell @shell (use chsh), a directory "
            "/srv/@dir that "
            "belongs to this user, and a file /srv/@dir/@file with the word @word, written with tee.",
        ),
        "useradd -M @user && chsh -s @shell @user && mkdir /srv/@dir && echo @word | tee /srv/@dir/@file "
        "&& chown @user /srv/@dir",
        '[ ! -d /home/@user ] && [ "$(getent passwd @user | cut -d: -f7)" = @shell ] '
        '&& [ "$(stat -c %U /srv/@dir)" = @user ] && [ "$(cat /srv/@dir/@file)" = @word ]',
    ),
    Template(
        "shared-notes",
        3,
        "addgroup chgrp chmod touch vi",
        (
            "Create the group @group with addgroup, and a file /srv/@file of that group with mode 770, in which the "
            "word "
            "@word was written with vi in ex mode.",
        ),
        "addgroup @group && touch /srv/@file && vi -es -c 'normal i@word' -c wq /srv/@file && chgrp @group /srv/@file "
        "&& chmod 770 /srv/@file",
        '[ "$(stat -c %G:%a /srv/@file)" = @group:770 ] && grep -qx @word /srv/@file',
    ),
)
