"""Templates about users and groups."""

from __future__ import annotations

from ludora.envs.shell.templates.base import Template

ACCOUNTS = (
    Template(
        "useradd-home",
        1,
        "useradd",
        ("Create the user @user with a home directory.", "Add a user named @user who has a home directory."),
        "useradd -m @user",
        "id @user && [ -d /home/@user ]",
    ),
    Template(
        "useradd-uid",
        1,
        "useradd",
        ("Create the user @user with user id @uid.", "Add a user @user whose user id is @uid."),
        "useradd -u @uid @user",
        '[ "$(id -u @user)" = @uid ]',
    ),
    Template(
        "useradd-shell",
        1,
        "useradd",
        ("Create the user @user with the login shell @shell.", "Add a user @user whose shell is @shell."),
        "useradd -s @shell @user",
        '[ "$(getent passwd @user | cut -d: -f7)" = @shell ]',
        held_out=True,
    ),
    Template(
        "groupadd-plain",
        1,
        "groupadd",
        ("Create a group @group with groupadd.", "Use groupadd to make the group @group."),
        "groupadd @group",
        "getent group @group",
    ),
    Template(
        "groupadd-gid",
        1,
        "groupadd",
        ("Create the group @group with group id @uid.", "Add a group named @group whose group id is @uid."),
        "groupadd -g @uid @group",
        '[ "$(getent group @group | cut -d: -f3)" = @uid ]',
    ),
    Template(
        "addgroup-plain",
        1,
        "addgroup",
        ("Create a group @group with addgroup.", "Use addgroup to make the group @group."),
        "addgroup @group",
        "getent group @group",
    ),
    Template(
        "addgroup-gid",
        1,
        "addgroup",
        ("With addgroup, create the group @group with group id @uid.", "Use addgroup to make @group with the id @uid."),
        "addgroup --gid @uid @group",
        '[ "$(getent group @group | cut -d: -f3)" = @uid ]',
        held_out=True,
    ),
    Template(
        "usermod-join",
        1,
        "usermod",
        ("Add the user @user to the group @group, with usermod.", "Use usermod to make @user a member of @group."),
        "usermod -aG @group @user",
        "id -nG @user | grep -qw @group && id -nG @user | grep -qw @group2",
        setup="groupadd @group; groupadd @group2; useradd -G @group2 @user",
    ),
    Template(
        "usermod-shell",
        1,
        "usermod",
        ("Set the login shell of @user to @shell, with usermod.", "Use usermod to give @user the shell @shell."),
        "usermod -s @shell @user",
        '[ "$(getent passwd @user | cut -d: -f7)" = @shell ]',
        setup="useradd -s /bin/false @user",
    ),
    Template(
        "usermod-lock",
        1,
        "usermod",
        ("Lock the account of @user.", "Lock the password of the user @user, with usermod."),
        "usermod -L @user",
        "grep -q '^@user:![^:]' /etc/shadow",
        setup="useradd @user; echo @user:@word | chpasswd",
        held_out=True,
    ),
    Template(
        "gpasswd-join",
        1,
        "gpasswd",
        ("Add the user @user to the group @group, with gpasswd.", "Use gpasswd to make @user a member of @group."),
        "gpasswd -a @user @group",
        "id -nG @user | grep -qw @group",
        setup="groupadd @group; useradd @user",
    ),
    Template(
        "gpasswd-leave",
        1,
        "gpasswd",
        ("Remove the user @user from the group @group.", "Use gpasswd to take @user out of the group @group."),
        "gpasswd -d @user @group",
        "getent group @group && id -nG @user2 | grep -qw @group "
        '&& groups=$(id -nG @user) && [[ " $groups " != *" @group "* ]]',
        setup="groupadd @group; useradd -G @group @user; useradd -G @group @user2",
    ),
    Template(
        "gpasswd-admin",
        1,
        "gpasswd",
        ("Make @user the administrator of the group @group.", "Let @user administer the group @group."),
        "gpasswd -A @user @group",
        '[ "$(grep ^@group: /etc/gshadow | cut -d: -f3)" = @user ]',
        setup="groupadd @group; useradd @user",
        held_out=True,
    ),
    Template(
        "chage-max",
        1,
        "chage",
        (
            "Let the password of @user expire after @days days.",
            "Set the largest number of days between password changes of @user to @days.",
        ),
        "chage -M @days @user",
        '[ "$(grep ^@user: /etc/shadow | cut -d: -f5)" = @days ]',
        setup="useradd @user",
    ),
    Template(
        "chage-warn",
        1,
        "chage",
        (
            "Warn @user @n days before the password expires.",
            "Set the number of days of warning before the password of @user expires to @n.",
        ),
        "chage -W @n @user",
        '[ "$(grep ^@user: /etc/shadow | cut -d: -f6)" = @n ]',
        setup="useradd @user; chage -W 20 @user",
    ),
    Template(
        "chage-force",
        1,
        "chage",
        (
            "Force @user to change the password at the next login.",
            "Make @user choose a new password when logging in next.",
        ),
        "chage -d 0 @user",
        '[ "$(grep ^@user: /etc/shadow | cut -d: -f3)" = 0 ]',
        setup="useradd @user; chage -d 2024-01-01 @user",
        held_out=True,
    ),
    Template(
        "chsh-shell",
        1,
        "chsh",
        ("Change the login shell of @user to @shell.", "Set the shell of the user @user to @shell with chsh."),
        "chsh -s @shell @user",
        '[ "$(getent passwd @user | cut -d: -f7)" = @shell ]',
        setup="useradd -s /bin/false @user",
    ),
    Template(
        "useradd-in-group",
        2,
        "groupadd useradd",
        (
            "Create the group @group and a user @user who is a member of it.",
            "Make a group @group, then a new user @user with @group as an additional group.",
        ),
        "groupadd @group && useradd -G @group @user",
        "id -nG @user | grep -qw @group",
    ),
    Template(
        "addgroup-join",
        2,
        "addgroup usermod",
        (
            "Create the group @group with addgroup and add the existing user @user to it.",
            "Use addgroup to make @group, then usermod to make @user a member.",
        ),
        "addgroup @group && usermod -aG @group @user",
        "id -nG @user | grep -qw @group",
        setup="useradd @user",
    ),
    Template(
        "useradd-chage",
        2,
        "chage useradd",
        (
            "Create the user @user with a home directory and let the password expire after @days days.",
            "Add a user @user who has a home; the password must be changed every @days days.",
        ),
        "useradd -m @user && chage -M @days @user",
        '[ -d /home/@user ] && [ "$(grep ^@user: /etc/shadow | cut -d: -f5)" = @days ]',
    ),
    Template(
        "useradd-chsh",
        2,
        "chsh useradd",
        (
            "Create the user @user and then set the login shell to @shell with chsh.",
            "Add a user @user and change the shell of that user to @shell.",
        ),
        "useradd @user && chsh -s @shell @user",
        '[ "$(getent passwd @user | cut -d: -f7)" = @shell ]',
    ),
    Template(
        "two-members",
        2,
        "gpasswd groupadd",
        (
            "Create the group @group and add @user and @user2 to it with gpasswd.",
            "Make a group @group whose members are the users @user and @user2.",
        ),
        "groupadd @group && gpasswd -a @user @group && gpasswd -a @user2 @group",
        "id -nG @user | grep -qw @group && id -nG @user2 | grep -qw @group",
        setup="useradd @user; useradd @user2",
        held_out=True,
    ),
    Template(
        "users-from-list",
        3,
        "addgroup cat useradd usermod chsh",
        (
            "For every name in /srv/@file create a user with a home directory and the shell @shell, who is in a new "
            "group "
            "@group made with addgroup.",
        ),
        "addgroup @group && for name in $(cat /srv/@file); do useradd -m $name && usermod -aG @group $name "
        "&& chsh -s @shell $name; done",
        "for name in @user @user2; do id -nG $name | grep -qw @group && [ -d /home/$name ] "
        '&& [ "$(getent passwd $name | cut -d: -f7)" = @shell ] || exit 1; done',
        setup="printf '@user\\n@user2\\n' > @file",
    ),
    Template(
        "team-with-lead",
        3,
        "addgroup gpasswd useradd chage",
        (
            "Set up the group @group with addgroup: a new user @user administers it, @user and a new user @user2 are "
            "its "
            "members, and both passwords expire after @days days.",
        ),
        "addgroup @group && useradd @user && useradd @user2 && gpasswd -M @user,@user2 @group && gpasswd -A @user "
        "@group "
        "&& chage -M @days @user && chage -M @days @user2",
        "for name in @user @user2; do id -nG $name | grep -qw @group "
        '&& [ "$(grep ^$name: /etc/shadow | cut -d: -f5)" = @days ] || exit 1; done; '
        '[ "$(grep ^@group: /etc/gshadow | cut -d: -f3)" = @user ]',
    ),
)
