"""Templates about what is in files: writing, searching, counting, editing."""

from __future__ import annotations

from ludora.envs.shell.templates.base import Template

TEXTS = (
    Template(
        "echo-word",
        1,
        "echo",
        ("Write the word @word into a new file /srv/@file.", "Create a file /srv/@file that contains the word @word."),
        "echo @word > /srv/@file",
        '[ "$(cat /srv/@file)" = @word ]',
    ),
    Template(
        "echo-append",
        1,
        "echo",
        ("Append a line with the word @word to /srv/@file.", "Add the word @word as a new last line of /srv/@file."),
        "echo @word >> /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2\\n@word3\\n@word' ]",
        setup="printf '@word2\\n@word3\\n' > @file",
        held_out=True,
    ),
    Template(
        "echo-two-words",
        1,
        "echo",
        ("Create a file /srv/@file with the text @word @word2.", "Save the text @word @word2 in the file /srv/@file."),
        "echo @word @word2 > /srv/@file",
        "[ \"$(cat /srv/@file)\" = '@word @word2' ]",
    ),
    Template(
        "cat-join",
        1,
        "cat",
        (
            "Join /srv/@file and /srv/@file2 into /srv/@file3.",
            "Write /srv/@file followed by /srv/@file2 to /srv/@file3.",
        ),
        "cat /srv/@file /srv/@file2 > /srv/@file3",
        "[ \"$(cat /srv/@file3)\" = $'@word\\n@word2' ]",
        setup="echo @word > @file; echo @word2 > @file2",
    ),
    Template(
        "cat-append",
        1,
        "cat",
        ("Append the contents of /srv/@file to /srv/@file2.", "Add what is in /srv/@file at the end of /srv/@file2."),
        "cat /srv/@file >> /srv/@file2",
        '[ "$(cat /srv/@file2)" = $\'@word2\\n@word\' ] && [ "$(cat /srv/@file)" = @word ]',
        setup="echo @word > @file; echo @word2 > @file2",
        held_out=True,
    ),
    Template(
        "grep-save",
        1,
        "grep",
        (
            "Save the lines of /srv/@file that contain @word to /srv/@file2.",
            "Write every line of /srv/@file with the word @word to /srv/@file2.",
        ),
        "grep @word /srv/@file > /srv/@file2",
        "[ \"$(cat /srv/@file2)\" = $'@word @word2\\n@word3 @word' ]",
        setup="printf '@word @word2\\n@word2 @word3\\n@word3 @word\\n@word4\\n' > @file",
    ),
    Template(
        "grep-count",
        1,
        "grep",
        (
            "Count the lines of /srv/@file that contain @word and write the number to /srv/@file2.",
            "Write into /srv/@file2 how many lines of /srv/@file contain the word @word.",
        ),
        "grep -c @word /srv/@file > /srv/@file2",
        '[ "$(cat /srv/@file2)" = @n ]',
        setup="for i in $(seq @n); do echo @word $i; echo @word2 $i; done > @file",
        held_out=True,
    ),
    Template(
        "grep-without",
        1,
        "grep",
        (
            "Save the lines of /srv/@file that do not contain @word to /srv/@file2.",
            "Write every line of /srv/@file without the word @word to /srv/@file2.",
        ),
        "grep -v @word /srv/@file > /srv/@file2",
        "[ \"$(cat /srv/@file2)\" = $'@word2 @word3\\n@word4' ]",
        setup="printf '@word @word2\\n@word2 @word3\\n@word3 @word\\n@word4\\n' > @file",
    ),
    Template(
        "wc-lines",
        1,
        "wc",
        (
            "Count the lines of /srv/@file and write the number to /srv/@file2.",
            "Write into /srv/@file2 how many lines /srv/@file has.",
        ),
        "wc -l < /srv/@file > /srv/@file2",
        '[ "$(tr -d " " < /srv/@file2)" = @n ]',
        setup="for i in $(seq @n); do echo @word @word2; done > @file",
    ),
    Template(
        "wc-words",
        1,
        "wc",
        (
            "Count the words of /srv/@file and write the number to /srv/@file2.",
            "Write into /srv/@file2 how many words /srv/@file has.",
        ),
        "wc -w < /srv/@file > /srv/@file2",
        '[ "$(tr -d " " < /srv/@file2)" = $((3 * @n)) ]',
        setup="for i in $(seq @n); do echo @word @word2 @word3; done > @file",
    ),
    Template(
        "sed-replace",
        1,
        "sed",
        ("Replace @word by @word2 in /srv/@file.", "In the file /srv/@file, change every @word to @word2."),
        "sed -i 's/@word/@word2/g' /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2 @word3 @word2\\n@word4\\n@word2' ]",
        setup="printf '@word @word3 @word\\n@word4\\n@word\\n' > @file",
    ),
    Template(
        "sed-delete-line",
        1,
        "sed",
        ("Delete line @n of /srv/@file.", "Remove the line with number @n from the file /srv/@file."),
        "sed -i '@{n}d' /srv/@file",
        'kept=$(seq 12 | grep -vx @n) && [ "$(cat /srv/@file)" = "$kept" ]',
        setup="seq 12 > @file",
    ),
    Template(
        "sed-delete-matching",
        1,
        "sed",
        (
            "Delete all lines of /srv/@file that contain @word.",
            "Remove every line with the word @word from /srv/@file.",
        ),
        "sed -i '/@word/d' /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2 @word3\\n@word4' ]",
        setup="printf '@word @word2\\n@word2 @word3\\n@word3 @word\\n@word4\\n' > @file",
        held_out=True,
    ),
    Template(
        "awk-column",
        1,
        "awk",
        (
            "Write the second column of /srv/@file to /srv/@file2.",
            "Save the second word of every line of /srv/@file to /srv/@file2.",
        ),
        "awk '{print $2}' /srv/@file > /srv/@file2",
        "[ \"$(cat /srv/@file2)\" = $'@word2\\n@word4' ]",
        setup="printf '@word @word2 1\\n@word3 @word4 2\\n' > @file",
    ),
    Template(
        "awk-sum",
        1,
        "awk",
        (
            "Add up the numbers in the first column of /srv/@file and write the sum to /srv/@file2.",
            "Write the sum of the first column of /srv/@file to /srv/@file2.",
        ),
        "awk '{s += $1} END {print s}' /srv/@file > /srv/@file2",
        '[ "$(cat /srv/@file2)" = $((@n + @n2 + 10)) ]',
        setup="printf '@n @word\\n@n2 @word2\\n10 @word3\\n' > @file",
    ),
    Template(
        "awk-filter",
        1,
        "awk",
        (
            "Write the lines of /srv/@file whose second column is greater than 10 to /srv/@file2.",
            "Keep the lines of /srv/@file with more than 10 in the second column, in the file /srv/@file2.",
        ),
        "awk '$2 > 10' /srv/@file > /srv/@file2",
        "[ \"$(cat /srv/@file2)\" = '@word2 1@n' ]",
        setup="printf '@word @n\\n@word2 1@n\\n@word3 10\\n' > @file",
        held_out=True,
    ),
    Template(
        "tee-two",
        1,
        "tee",
        (
            "Write the word @word to both /srv/@file and /srv/@file2, with tee.",
            "Use tee to save the word @word in /srv/@file and in /srv/@file2.",
        ),
        "echo @word | tee /srv/@file /srv/@file2",
        '[ "$(cat /srv/@file)" = @word ] && [ "$(cat /srv/@file2)" = @word ]',
    ),
    Template(
        "tee-append",
        1,
        "tee",
        ("Append the word @word to /srv/@file with tee.", "Use tee to add a line @word at the end of /srv/@file."),
        "echo @word | tee -a /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2\\n@word' ]",
        setup="echo @word2 > @file",
    ),
    Template(
        "vi-replace",
        1,
        "vi",
        (
            "With vi in ex mode, replace every @word in /srv/@file by @word2 and save.",
            "Edit /srv/@file with vi and no screen: change all @word to @word2, then save.",
        ),
        "vi -es -c '%s/@word/@word2/g' -c wq /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2 @word3 @word2\\n@word4' ]",
        setup="printf '@word @word3 @word\\n@word4\\n' > @file",
    ),
    Template(
        "vi-delete-line",
        1,
        "vi",
        (
            "With vi in ex mode, delete line @n of /srv/@file and save.",
            "Edit /srv/@file with vi and no screen: delete line @n, then save.",
        ),
        "vi -es -c '@{n}d' -c wq /srv/@file",
        'kept=$(seq 12 | grep -vx @n) && [ "$(cat /srv/@file)" = "$kept" ]',
        setup="seq 12 > @file",
    ),
    Template(
        "vi-append-line",
        1,
        "vi",
        (
            "With vi in ex mode, add the line @word at the end of /srv/@file and save.",
            "Edit /srv/@file with vi and no screen: append the line @word after the last one, then save.",
        ),
        "vi -es -c 'normal Go@word' -c wq /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word2\\n@word3\\n@word' ]",
        setup="printf '@word2\\n@word3\\n' > @file",
        held_out=True,
    ),
    Template(
        "grep-wc-pipe",
        2,
        "cat grep wc",
        (
            "Count the lines with @word in /srv/@file and /srv/@file2 together; write the number to /srv/@file3.",
            "How many lines of /srv/@file and /srv/@file2 contain @word? Write their number to /srv/@file3.",
        ),
        "cat /srv/@file /srv/@file2 | grep @word | wc -l > /srv/@file3",
        '[ "$(tr -d " " < /srv/@file3)" = $((@n + 1)) ]',
        setup="for i in $(seq @n); do echo @word $i; echo @word2; done > @file; printf '@word3\\n@word\\n' > @file2",
    ),
    Template(
        "awk-grep-errors",
        2,
        "awk grep",
        (
            "Each line of /srv/@file is a day, a level and a word. Write the words of the lines with level ERROR to "
            "/srv/@file2.",
            "From the lines of /srv/@file that contain ERROR, save the third column in /srv/@file2.",
        ),
        "grep ERROR /srv/@file | awk '{print $3}' > /srv/@file2",
        "[ \"$(cat /srv/@file2)\" = $'@word\\n@word3' ]",
        setup="printf 'mon ERROR @word\\ntue INFO @word2\\nwed ERROR @word3\\n' > @file",
    ),
    Template(
        "sed-then-cp",
        2,
        "cp sed",
        (
            "Keep a copy of /srv/@file as /srv/@file2, then replace @word by @word2 in /srv/@file.",
            "Copy /srv/@file to /srv/@file2. After that, change @word to @word2 in /srv/@file.",
        ),
        "cp /srv/@file /srv/@file2 && sed -i 's/@word/@word2/g' /srv/@file",
        "[ \"$(cat /srv/@file)\" = '@word2 @word3' ] && [ \"$(cat /srv/@file2)\" = '@word @word3' ]",
        setup="echo '@word @word3' > @file",
    ),
    Template(
        "tee-sorted",
        2,
        "cat tee",
        (
            "Sort the lines of /srv/@file and write them with tee to /srv/@file2 and /srv/@file3.",
            "Write the sorted lines of /srv/@file to both /srv/@file2 and /srv/@file3, with tee.",
        ),
        "cat /srv/@file | sort | tee /srv/@file2 /srv/@file3",
        'sorted=$(sort /srv/@file) && [ "$(cat /srv/@file2)" = "$sorted" ] && [ "$(cat /srv/@file3)" = "$sorted" ] '
        "&& grep -q @word /srv/@file",
        setup="printf '@word\\n@word2\\n@word3\\n@word4\\n' | sort -r > @file",
        held_out=True,
    ),
    Template(
        "config-value",
        2,
        "grep sed echo",
        (
            "In the settings file /srv/@file, set @word to @n2 (it has the line @word=@n), and add the line @word2=@n.",
            "Change @word=@n to @word=@n2 in /srv/@file, then append @word2=@n.",
        ),
        "sed -i 's/^@word=.*/@word=@n2/' /srv/@file && echo @word2=@n >> /srv/@file && grep @word /srv/@file",
        "[ \"$(cat /srv/@file)\" = $'@word3=1\\n@word=@n2\\n@word2=@n' ]",
        setup="printf '@word3=1\\n@word=@n\\n' > @file",
    ),
    Template(
        "report-of-log",
        3,
        "cat echo grep wc awk",
        (
            "Write a report on the log /srv/@file to /srv/@file2, in three lines: the number of all lines, the "
            "number of "
            "lines with @word, and the first column of the last line.",
        ),
        "cat /srv/@file | wc -l > /srv/@file2 && grep -c @word /srv/@file >> /srv/@file2 "
        "&& echo $(awk 'END {print $1}' /srv/@file) >> /srv/@file2",
        "[ \"$(tr -d ' ' < /srv/@file2)\" = $((2 * @n + 1))$'\\n'@n$'\\n'@word3 ]",
        setup="(for i in $(seq @n); do echo $i @word; echo $i @word2; done; echo '@word3 @word2') > @file",
    ),
    Template(
        "merge-and-clean",
        3,
        "cat sed mkdir rm wc",
        (
            "Make the folder /srv/@dir. Join /srv/@file and /srv/@file2 there as all.txt, without the lines that "
            "contain "
            "@word; write how many lines are left to /srv/@dir/count.txt, and delete /srv/@file and /srv/@file2.",
        ),
        "mkdir /srv/@dir && cat /srv/@file /srv/@file2 | sed '/@word/d' > /srv/@dir/all.txt "
        "&& wc -l < /srv/@dir/all.txt > /srv/@dir/count.txt && rm /srv/@file /srv/@file2",
        "[ \"$(cat /srv/@dir/all.txt)\" = $'@word2\\n@word3 x' ] "
        "&& [ \"$(tr -d ' ' < /srv/@dir/count.txt)\" = 2 ] && [ ! -e /srv/@file ] && [ ! -e /srv/@file2 ]",
        setup="printf '@word2\\n@word 1\\n' > @file; printf '@word3 x\\n@word\\n' > @file2",
    ),
)
