"""Histories that pictures are made of, by hand and at random."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from django_txtest.history import Edge, Event, History, Kind, Place

#: The same in every run, and however slow the machine is.
examples = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
SELECT = (
    'SELECT "shop_coupon"."id", "shop_coupon"."code", "shop_coupon"."uses_left" '
    'FROM "shop_coupon" WHERE "shop_coupon"."code" = %s LIMIT 21'
)
UPDATE = 'UPDATE "shop_coupon" SET "uses_left" = %s WHERE "shop_coupon"."id" = %s'
INSERT = 'INSERT INTO "shop_redemption" ("coupon_id", "customer") VALUES (%s, %s)'


def place(line, function="redeem"):
    return Place("shop/services/racy.py", line, function)


def statement(session, sql, params=None, line=12, in_transaction=True):
    return Event(
        session,
        Kind.STATEMENT,
        sql=sql,
        params=params,
        place=place(line),
        in_transaction=in_transaction,
    )


def ending(session, kind=Kind.COMMIT, line=23):
    return Event(session, kind, place=place(line), in_transaction=True)


def lost_update():
    """Two sessions, a wait, a script in the SQL, and three dependencies."""
    history = History(
        [
            Event("alice", Kind.START, text="redeem('X', 'ada@example.com')"),
            statement("alice", SELECT, ("X",)),
            Event("bob", Kind.START, text="redeem('X', 'bob@example.com')"),
            statement("bob", SELECT, ("X",)),
            statement("bob", UPDATE, (0, 1), 17),
            statement("alice", UPDATE, (0, 1), 17),
            Event("alice", Kind.WAITS, others=("bob",)),
            statement("bob", INSERT, (1, "<script>alert(1)</script>"), 21),
            ending("bob"),
            Event("bob", Kind.RETURNS, text="10"),
            Event("alice", Kind.GOES_ON),
            Event("alice", Kind.CHECKPOINT, text="paid", place=place(20)),
            statement("alice", INSERT, (1, "ada@example.com"), 21),
            ending("alice"),
            Event("alice", Kind.RETURNS, text="10"),
        ]
    )
    edges = [
        Edge(1, 4, "rw: alice read uses_left of row 1 before bob wrote it"),
        Edge(3, 5, "rw: bob read uses_left of row 1 before alice wrote it"),
        Edge(4, 5, "ww: bob wrote it before alice did"),
    ]
    return history, edges


def deadlock():
    """Three sessions in a circle, and arrows across lanes, backwards and within one."""
    names = ("s1", "s2", "s3")
    events = []
    for name in names:
        events.append(Event(name, Kind.START, text="lend_both(1, 2)"))
        events.append(statement(name, SELECT, ("X" * 30,), in_transaction=False))
    for pk, name in enumerate(names):
        events.append(statement(name, UPDATE, (1, pk)))
    for name, other in zip(names, ("s2", "s3"), strict=False):
        events.append(statement(name, UPDATE, (1, names.index(other))))
        events.append(Event(name, Kind.WAITS, others=(other,)))
    events += [
        statement("s3", UPDATE, (1, 0)),
        Event("s3", Kind.ERROR, text="OperationalError: deadlock detected"),
        Event("s2", Kind.GOES_ON),
        ending("s3", Kind.ROLLBACK),
        Event("s3", Kind.RAISES, text="OperationalError: deadlock detected"),
        Event("s1", Kind.WAITS, others=("s2",)),
        ending("s2"),
        Event("s2", Kind.RETURNS, text="None"),
        Event("s1", Kind.GOES_ON),
        ending("s1"),
        Event("s1", Kind.RETURNS, text="None"),
    ]
    edges = [
        Edge(6, 11, "ww row 1"),
        Edge(13, 6, "backwards"),
        Edge(6, 17, "across a lane"),
        Edge(19, 23, "ww row 2"),
        Edge(0, 6, "within a session"),
    ]
    return History(events), edges


_TEXTS = st.text(max_size=60) | st.text(
    st.sampled_from("aé漢\u0301 \x00\x1b<&\"'"), max_size=300
)
_KINDS = st.sampled_from([kind for kind in Kind if kind is not Kind.GOES_ON])


@st.composite
def histories(draw):
    """Draw what up to four sessions do, about as they do it, and some dependencies."""
    names = draw(st.lists(_TEXTS, min_size=1, max_size=4, unique=True))
    events = [Event(name, Kind.START, text=draw(_TEXTS)) for name in names]
    waiting = set()
    over = set()
    for _ in range(draw(st.integers(0, 30))):
        name = draw(st.sampled_from(names))
        if name in over:
            continue
        alias = draw(st.sampled_from(["default", "default", "other"]))
        kind = draw(_KINDS)
        if kind is Kind.START:
            kind = Kind.STATEMENT
        if name in waiting and kind is not Kind.WAITS:
            waiting.remove(name)
            events.append(Event(name, Kind.GOES_ON))
        if kind is Kind.WAITS:
            waiting.add(name)
        if kind in (Kind.RETURNS, Kind.RAISES):
            over.add(name)
        is_end = kind in (Kind.COMMIT, Kind.ROLLBACK)
        events.append(
            Event(
                name,
                kind,
                alias,
                sql=draw(_TEXTS) if kind is Kind.STATEMENT else "",
                text=draw(_TEXTS),
                place=draw(st.none() | st.just(place(7, draw(_TEXTS)))),
                others=tuple(draw(st.lists(st.sampled_from(names), max_size=2))),
                in_transaction=is_end or draw(st.booleans()),
            )
        )
    ends = st.integers(0, len(events) - 1)
    edges = draw(st.lists(st.builds(Edge, ends, ends, _TEXTS), max_size=8))
    return History(events), edges
