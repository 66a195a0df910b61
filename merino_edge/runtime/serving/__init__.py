"""Many clients, one model: a pool of sessions, a bounded fair queue, and doors to the outside.

The one idea: whatever a client is (HTTP, a UNIX socket, a test), it hands a ``Request`` to one
``Scheduler`` and reads events from the ``Ticket`` that it gets. What runs at the same time shares
the model: one thread gives each running request one token in turn. All memory of the sessions is
taken at the start, and what may wait is bounded, so a server does not grow with its clients.

::

    from merino_edge.runtime.serving.job import End, Request
    from merino_edge.runtime.serving.pool import open_sessions
    from merino_edge.runtime.serving.scheduler import Scheduler

    with Scheduler(open_sessions("bundle/", n_sessions=4)) as scheduler:
        ticket = scheduler.submit(Request("The sheep", config, client="anna", limit_s=60.0))
        for event in ticket.events():  # Piece, Piece, ..., End
            print(event.reason if isinstance(event, End) else event.text)

- ``Scheduler.submit(request)`` checks and encodes the prompt in the caller's thread and gives a
  Ticket at once. It raises what a session would (SessionError: empty, too long, bad id;
  SpecError; UnsupportedError: text without a tokenizer, a chat without a chat format) and BusyError
  where a limit is reached: ``reason`` "client" is HTTP's 429, "queue" and "stopping" its 503.
- ``Ticket.next_event(timeout_s)`` gives the next event, or None when time is up;
  ``Ticket.events()`` iterates to the End, which always comes and comes once.
- ``Ticket.cancel()`` may be called from any thread, at any time, more than once: a request that
  waits ends at once, one that runs ends before its next step.
- ``Piece``: ``text`` (whole characters, may be "") and ``token_ids`` that became known.
- ``End``: ``reason`` is "stop", "length", "cancelled", "deadline" (``limit_s`` is over), "stopping"
  (the server is) or "error" (then ``error`` is a MerinoError); ``usage`` has counts and times.
- ``Scheduler.stop(grace_s)`` refuses what is new, ends what waits, lets what runs go on for
  ``grace_s`` at most, and returns when the last End is out. ``close`` also frees the sessions.

A Ticket that nobody reads keeps its events, as many as tokens were asked for, and holds up no one.
"""
