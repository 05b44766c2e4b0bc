"""The bar: the application's users lose the right to write on a side, by ACL, and get it back exactly.

The server asks a user's rights for every command, also for those of a script, of a transaction that was queued
before, and for writes that a pause has made wait (tried on Redis 6.2, 7.0, 8.2 and Valkey 9.1). One kind slips
through: a command that blocks was judged when it came.

1. a straggler's BLPOP blocks on the old side; 2. its user loses its rights; 3. after the switch our own reverse sync
writes that list on the old side; 4. the BLPOP is served: one element reaches two consumers.

So connections that wait in such a command are ended with the bar.

Rights that are taken away have no dead-man's switch: a coordinator that dies keeps writes out until it is started
again. So what is going to be taken is known, and can be written down, before anything is taken; giving back is
harmless twice. A server that is started anew has the rules of its own files again, and a replica never hears of the
bar: ``lapses`` tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyferry.copy.client_list import BLOCKING, ClientLine, parse_client_list
from keyferry.copy.info import Info, info_number, info_text, parse_info
from keyferry.cutover.acl_rules import (
    Categories,
    UserRules,
    read_user,
    read_writes,
    user_as_dict,
    user_of_dict,
)
from keyferry.cutover.reach import Commands, Primary, Reach
from keyferry.model.errors import RefusedError, ServerAway, ServerError
from keyferry.model.words import counted
from keyferry.wire.resp import Reply, ReplyError

OUR_NAMES = "keyferry"
"""What the names of our own connections, and of the drop-in clients', begin with."""
USERS_MAX = 1000
RIGHTS = (
    "+acl|whoami +acl|users +acl|getuser +acl|setuser +command +client|list +client|kill +client|setname "
    "+info +multi +exec +discard"
)
HINT = f"The user needs {RIGHTS}."


@dataclass(frozen=True, slots=True)
class Taken:
    """Whose rights are taken, and what they were: by primary, in the order of ``places``.

    Attributes:
        users: Rules before the bar, by the primary's id. No passwords.
        places: Of each primary, for people.
    """

    users: Mapping[str, tuple[UserRules, ...]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the users, in alphabetical order."""
        return tuple(
            sorted({_shown(user.name) for users in self.users.values() for user in users}),
        )

    def as_dict(self) -> dict[str, Any]:
        """For a journal, as JSON takes it."""
        return {
            "primaries": [
                {"id": one, "place": self.places[one], "users": [user_as_dict(user) for user in users]}
                for one, users in self.users.items()
            ]
        }

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Taken:
        """The reverse of ``as_dict``.

        Raises:
            ValueError: It is something else.
        """
        try:
            return cls(
                {one["id"]: tuple(user_of_dict(user) for user in one["users"]) for one in data["primaries"]},
                {one["id"]: str(one["place"]) for one in data["primaries"]},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the note of taken rights cannot be read: {error!r}") from None


@dataclass(frozen=True, slots=True)
class BarSurvey:
    """What a bar would do, found out without changing anything.

    Attributes:
        own_user: Ours, on the first primary.
        taken: What ``Bar.take`` is going to take; to be written down before.
        able: Rights can be taken at all: the server has ACLs, and lets us set them.
        obstacles: Why somebody could still write after it, as sentences; empty: nobody but us.
        notes: What does not stop it and an operator should know, as sentences.
    """

    own_user: str
    taken: Taken = field(default_factory=Taken)
    able: bool = True
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    writes: Mapping[str, Categories] = field(default_factory=dict, repr=False)
    """Which commands write, by the primary's id."""

    @property
    def users(self) -> tuple[str, ...]:
        """The application's users that may write and are not ours."""
        return self.taken.names

    @property
    def complete(self) -> bool:
        """Whether nobody but us can write once it is taken."""
        return self.able and not self.obstacles


class Bar:
    """Takes and gives back the rights to write on one side.

    Args:
        reach: Of that side. Its user must not be the application's.
        leave: Names of users that keep their rights, such as an administrator's.
    """

    def __init__(self, reach: Reach, leave: Collection[str] = ()) -> None:
        self._reach = reach
        self._leave = frozenset(leave)
        self._known_writes: dict[str, Categories] = {}
        """By run id: COMMAND is the longest of all answers, and a process keeps its commands."""

    def survey(self) -> BarSurvey:
        """Who can write, and whether that can be taken away. Takes as long as a few round trips; stops nobody.

        Raises:
            ServerAway: A primary cannot be asked now.
            ServerError: It refuses us altogether.
        """
        found = [self._survey_of(primary) for primary in self._reach.primaries()]
        taken = Taken(
            {key: users for one in found for key, users in one.taken.users.items()},
            {key: place for one in found for key, place in one.taken.places.items()},
        )
        able = all(one.able for one in found)
        obstacles = [text for one in found for text in one.obstacles]
        return BarSurvey(
            found[0].own_user,
            taken if able else Taken(),
            able,
            tuple(dict.fromkeys(obstacles)),
            tuple(dict.fromkeys(text for one in found for text in one.notes)),
            {key: writes for one in found for key, writes in one.writes.items()},
        )

    def take(self, survey: BarSurvey) -> Taken:
        """Takes the rights on all primaries, or, when one fails, on none. Runs under a pause too.

        ``survey.taken`` is to be in the journal before: a coordinator that dies in here leaves it behind.

        Returns:
            What was taken, for ``give_back``.

        Raises:
            RefusedError: There is nothing to take, or a user's rules were changed since the survey.
            ServerError: A primary refuses, or does not answer. What could be undone was; where a primary is
                away, giving back ``survey.taken`` later undoes the rest.
        """
        taken = survey.taken
        if not survey.able or not any(taken.users.values()):
            raise RefusedError(
                f"On the {self._reach.side} no user's write rights can be taken away.",
                next(iter(survey.obstacles), ""),
            )
        batches: dict[Primary, Commands] = {
            primary: _taking(taken.users[primary.id], survey.writes[primary.id])
            for primary in self._members(taken)
        }
        found = {key: list(users) for key, users in taken.users.items()}
        try:
            answers = self._reach.exchange(batches, again=False)
            for primary, replies in answers.replies.items():
                found[primary.id] = self._befores(primary, replies, found[primary.id])
            for primary, replies in answers.all().items():
                self._check_taken(primary, replies, taken.users[primary.id])
            self.end_blocked(taken)
        except BaseException:
            # Where this fails too, the journal's note remains.
            with contextlib.suppress(ServerError):
                self._restore(
                    {primary: [user.restoring() for user in found[primary.id]] for primary in batches}
                )
            raise
        return taken

    def give_back(self, taken: Taken) -> tuple[str, ...]:
        """Sets the users' rules to what they were. Harmless twice, and where nothing was taken.

        Returns:
            Sentences about users and primaries that are not there any more, or were changed since.

        Raises:
            ServerError: A primary refuses or does not answer; the others were given theirs back.
        """
        said = [
            f"The node {place} of the {self._reach.side} is no primary any more. If it is to take writes again, "
            f"run there: {'; '.join(_typed(user) for user in taken.users[key])}."
            for key, place in taken.places.items()
            if taken.users[key] and key not in {primary.id for primary in self._members(taken)}
        ]
        now = self._reach.exchange(
            {primary: _asking(taken.users[primary.id]) for primary in self._members(taken)}
        )
        batches: dict[Primary, Commands] = {}
        for primary, replies in now.replies.items():
            for user, reply in zip(taken.users[primary.id], replies, strict=True):
                current = self._read(primary, user.name, reply)
                if current is None:
                    said.append(
                        f"{self._reach.name(primary)} has no user {_shown(user.name)} any more: nothing was given back."
                    )
                elif current != user:
                    batches.setdefault(primary, []).append(user.restoring())
        self._restore(batches)
        now.all()
        return tuple(said)

    def lapses(self, taken: Taken) -> tuple[str, ...]:
        """Where the bar is not in place any more, as sentences. Raises as ``survey``."""
        members = self._members(taken)
        said = [
            f"{self._reach.name(primary)} has become a primary since, and bars nobody."
            for primary in self._reach.primaries()
            if primary not in members
        ]
        asking: dict[Primary, Commands] = {primary: _asking(taken.users[primary.id]) for primary in members}
        for primary, replies in self._reach.exchange(asking).all().items():
            writes = self._writes(primary)
            for user, reply in zip(taken.users[primary.id], replies, strict=True):
                current = self._read(primary, user.name, reply)
                if current is not None and current.may_write(writes):
                    said.append(
                        f"On {_inside(self._reach.name(primary))} the user {_shown(user.name)} may write again: "
                        "its rules were set, or the server was started anew."
                    )
        return tuple(said)

    def end_blocked(self, taken: Taken) -> int:
        """Ends the barred users' connections that wait in a command such as BLPOP; how many. Raises as ``survey``."""
        members = self._members(taken)
        ended = 0
        asked = self._reach.exchange({key: [("INFO", "clients")] for key in members}).all()
        busy = [primary for primary, (info,) in asked.items() if _blocked(info)]
        listed = self._reach.exchange({key: [("CLIENT", "LIST")] for key in busy}).all()
        batches: dict[Primary, Commands] = {}
        for primary, (clients,) in listed.items():
            self._check(primary, "CLIENT LIST", [clients])
            names = {_shown(user.name) for user in taken.users[primary.id]}
            lines = parse_client_list(clients, BLOCKING) if isinstance(clients, bytes) else ()
            waiting = [line.id for line in lines if line.waits_to_write and line.user in names]
            if waiting:
                batches[primary] = [("CLIENT", "KILL", "ID", number) for number in waiting]
        for primary, replies in self._reach.exchange(batches).all().items():
            self._check(primary, "to end connections", replies)
            ended += sum(reply for reply in replies if isinstance(reply, int))
        return ended

    # One primary

    def _survey_of(self, primary: Primary) -> BarSurvey:
        asked: Commands = [
            ("ACL", "WHOAMI"),
            ("ACL", "USERS"),
            ("CLIENT", "LIST"),
            ("INFO", "replication"),
            *_probing(),
        ]
        who, names, clients, info, *probe = self._reach.ask(primary, asked)
        for reply in (who, names, clients, *probe):
            if isinstance(reply, ReplyError):
                return BarSurvey("", able=False, obstacles=(self._unable(primary, reply),))
        try:
            writes = self._writes(primary)
        except ServerAway:
            raise
        except ServerError as error:
            return BarSurvey("", able=False, obstacles=(f"{error.message} {HINT}",))
        own = who if isinstance(who, bytes) else b""
        rules = self._rules(primary, names)
        leave = {own, *(name.encode() for name in self._leave)}
        users = tuple(user for user in rules if user.name not in leave and user.may_write(writes))
        obstacles = [*self._shared(primary, own, clients)]
        kept = sorted(
            _shown(user.name)
            for user in rules
            if user.name in leave and user.name != own and user.may_write(writes)
        )
        notes = [f"{', '.join(kept)} may go on writing on the {self._reach.side}, as told."] if kept else []
        if not users and not obstacles:
            obstacles.append(
                f"{self._reach.name(primary)} has no user that may write but {_shown(own)}, which Keyferry uses: an "
                "application that writes there uses it too."
            )
        if info_number(_info(info), "replication", "connected_slaves"):
            notes.append(
                f"The replicas of {_inside(self._reach.name(primary))} do not hear of the bar: a failover would lift it."
            )
        return BarSurvey(
            _shown(own),
            Taken({primary.id: users}, {primary.id: primary.place}),
            True,
            tuple(obstacles),
            tuple(notes),
            {primary.id: writes},
        )

    def _rules(self, primary: Primary, names: Reply) -> list[UserRules]:
        found = [name for name in names if isinstance(name, bytes)] if isinstance(names, list) else []
        if len(found) > USERS_MAX:
            raise ServerError(
                self._reach.wire_side, f"{self._reach.name(primary)} has more than {USERS_MAX} users."
            )
        replies = self._reach.ask(primary, [("ACL", "GETUSER", name) for name in found])
        rules = [self._read(primary, name, reply) for name, reply in zip(found, replies, strict=True)]
        return [one for one in rules if one is not None]

    def _shared(self, primary: Primary, own: bytes, clients: Reply) -> list[str]:
        """Somebody else is connected as the user that we are."""
        place, user = _inside(self._reach.name(primary)), _shown(own)
        lines = [line for line in _lines(clients) if line.user == user and not line.replicates]
        others = [line for line in lines if not line.name.startswith(OUR_NAMES)]
        if len(others) == len(lines):
            return [
                f"On {place} our connections have no names (CLIENT SETNAME is refused), so that who else uses the user "
                f"{user} cannot be told. {HINT}"
            ]
        if not others:
            return []
        return [
            f"On {place} Keyferry and {counted(len(others), 'connection')} of others use the same user, {user} (such as "
            f"{others[0].addr}): its rights cannot be taken away."
        ]

    def _unable(self, primary: Primary, reply: ReplyError) -> str:
        return f"{self._reach.name(primary)} does not let us take rights away: {reply.message.rstrip('.')}. {HINT}"

    def _restore(self, batches: Mapping[Primary, Commands]) -> None:
        for primary, replies in self._reach.exchange(batches).all().items():
            self._check(primary, "to give write rights back", replies)

    def _befores(self, primary: Primary, replies: list[Reply], users: list[UserRules]) -> list[UserRules]:
        """The rules right before ours, which somebody may have changed since the survey."""
        done = replies[-1]
        if not isinstance(done, list) or len(done) != 2 * len(users):
            return users
        return [
            (self._read(primary, user.name, done[2 * i]) or user)
            if not isinstance(done[2 * i], ReplyError)
            else user
            for i, user in enumerate(users)
        ]

    def _check_taken(self, primary: Primary, replies: list[Reply], users: tuple[UserRules, ...]) -> None:
        """Whether the rules were set, and had been those of the survey."""
        self._check(primary, "to take write rights away", replies)
        done = replies[-1]
        if not isinstance(done, list) or len(done) != 2 * len(users):
            raise ServerError(
                self._reach.wire_side,
                f"{self._reach.name(primary)} answers to EXEC what we do not understand.",
            )
        self._check(primary, "to take write rights away", done)
        for i, user in enumerate(users):
            before = self._read(primary, user.name, done[2 * i])
            if before != user:
                raise RefusedError(
                    f"Somebody changed the rules of the user {_shown(user.name)} in the same moment.",
                    "Try again when nobody changes users.",
                )

    def _members(self, taken: Taken) -> list[Primary]:
        """The primaries of now that it speaks of."""
        return [primary for primary in self._reach.primaries() if primary.id in taken.users]

    def _writes(self, primary: Primary) -> Categories:
        """Which commands write there."""
        (server,) = self._reach.ask(primary, [("INFO", "server")])
        run_id = info_text(_info(server), "server", "run_id")
        if run_id and run_id in self._known_writes:
            return self._known_writes[run_id]
        (command,) = self._reach.ask(primary, [("COMMAND",)])
        self._check(primary, "COMMAND", [command])
        try:
            writes = self._known_writes[run_id] = read_writes(command)
        except ValueError as error:
            raise self._unread(primary, error) from None
        return writes

    def _read(self, primary: Primary, name: bytes, reply: Reply) -> UserRules | None:
        if isinstance(reply, ReplyError):
            raise self._reach.refusal(primary, "ACL GETUSER", reply, HINT)
        try:
            return read_user(name, reply)
        except ValueError as error:
            raise self._unread(primary, error) from None

    def _unread(self, primary: Primary, error: ValueError) -> ServerError:
        return ServerError(
            self._reach.wire_side, f"{self._reach.name(primary)} cannot be understood: {error}."
        )

    def _check(self, primary: Primary, what: str, replies: Collection[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise self._reach.refusal(primary, what, reply, HINT)


def _probing() -> Commands:
    """Whether we may set rules: a transaction that is thrown away."""
    return [
        ("MULTI",),
        ("ACL", "SETUSER", "keyferry-probe", "-@write"),
        ("CLIENT", "KILL", "ID", 0),
        ("DISCARD",),
    ]


def _asking(users: tuple[UserRules, ...]) -> Commands:
    return [("ACL", "GETUSER", user.name) for user in users]


def _taking(users: tuple[UserRules, ...], writes: Categories) -> Commands:
    """All at once, each after a last look."""
    steps: Commands = [("MULTI",)]
    for user in users:
        steps += [("ACL", "GETUSER", user.name), user.barring(writes)]
    return [*steps, ("EXEC",)]


def _lines(clients: Reply) -> list[ClientLine]:
    return list(parse_client_list(clients)) if isinstance(clients, bytes) else []


def _info(reply: Reply) -> Info:
    return parse_info(reply) if isinstance(reply, bytes) else {}


def _blocked(info: Reply) -> bool:
    """Whether anybody may wait for a key. Those whom a pause holds are blocked too, but for no key (7.2)."""
    found = [info_number(_info(info), "clients", name) for name in ("blocked_clients", "total_blocking_keys")]
    return 0 not in found


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def typed(taken: Taken) -> tuple[str, ...]:
    """The commands that give back what was taken, as an operator types them; each once."""
    return tuple(dict.fromkeys(_typed(user) for users in taken.users.values() for user in users))


def _typed(user: UserRules) -> str:
    """The command that gives a user its rights back, as an operator types it."""
    return " ".join(
        word.decode("utf-8", "backslashreplace") if isinstance(word, bytes) else str(word)
        for word in user.restoring()
    )


def _inside(name: str) -> str:
    """A primary's name in the middle of a sentence."""
    return name[0].lower() + name[1:]
