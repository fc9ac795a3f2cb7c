"""The server lives as long as the process that started it, however that ends."""

import os
import random
import signal
import time
from pathlib import Path

from .support import (
    BOUND,
    ServerTestCase,
    connect,
    folders_of,
    poll,
    processes_with,
    watchdog_of,
)

STAY = "time.sleep(600)"


class EndTests(ServerTestCase):
    def test_normal_exit_waits_until_all_is_gone(self):
        process, host = self.begin_server()
        self.assertEqual(process.wait(BOUND), 0)
        # Not polled: an exit that is over must have stopped the server.
        self.assertFalse(Path(host).exists())
        self.assertEqual(processes_with(host), [])
        self.assertEqual(process.stderr.read(), "")

    def test_exception(self):
        process, host = self.begin_server("raise ValueError('on purpose')")
        self.assertEqual(process.wait(BOUND), 1)
        self.assertIn("on purpose", process.stderr.read())
        self.assertGone(host, process.pid)

    def test_open_connections_do_not_hold_up_the_exit(self):
        script = (
            "from tests.embedded.support import connect\n"
            "connection = connect(database['HOST'])\n"
            "connection.cursor().execute('SELECT pg_advisory_lock(1)')\n"
        )
        process, host = self.begin_server(script)
        self.assertEqual(process.wait(BOUND), 0)
        self.assertGone(host, process.pid)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number.name):
                process, host = self.begin_server(STAY)
                self.assertTrue(Path(host).exists())
                process.send_signal(number)
                self.assertNotEqual(process.wait(BOUND), 0)
                self.assertGone(host, process.pid)

    def test_ctrl_c_does_not_reach_the_server(self):
        script = (
            "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'hit\\n'))\n"
            "print('ready', flush=True)\n" + STAY
        )
        process, host = self.begin_server(script)
        self.assertEqual(process.stdout.readline().strip(), "ready")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        self.assertEqual(process.stdout.readline().strip(), "hit")
        connect(host).close()

    def test_sigkill_with_a_forked_child_that_lives_on(self):
        # The child holds the pipe to the watchdog open.
        script = (
            "child = os.fork()\nif child: print(child, flush=True)\ntime.sleep(600)\n"
        )
        process, host = self.begin_server(script)
        child = int(process.stdout.readline())
        process.kill()
        process.wait(BOUND)
        self.assertGone(host, process.pid)
        os.kill(child, 0)  # it does live

    def test_the_exit_of_a_forked_child_leaves_the_server_alone(self):
        script = (
            "child = os.fork()\n"
            "if not child: sys.exit()\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n"
            "time.sleep(600)\n"
        )
        process, host = self.begin_server(script)
        self.assertEqual(process.stdout.readline(), "0\n")
        connect(host).close()

    def test_sigkill_at_any_moment(self):
        for moment in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, random.uniform(0, 0.6)):
            with self.subTest(moment=moment):
                self.kill_at(moment)

    def kill_at(self, moment):
        process = self.begin(STAY)
        watchdog = poll(lambda: watchdog_of(process.pid))
        self.assertTrue(watchdog)
        time.sleep(moment)
        process.kill()
        process.wait(BOUND)
        self.assertTrue(poll(lambda: not watchdog_of(process.pid)))
        self.assertEqual(folders_of(watchdog), [])
        self.assertEqual(processes_with(f"/txtest-{watchdog}-"), [])

    def test_sigkill_while_initdb_runs(self):
        programs = self.temporary_folder()
        # Its child, too, has to go.
        (programs / "initdb").write_text(
            '#!/bin/sh\nmkdir "$2"\nsleep 600 & echo $! > "$2/child"\nwait\n'
        )
        (programs / "postgres").write_text(
            "#!/bin/sh\necho 'postgres (PostgreSQL) 16'\n"
        )
        for program in programs.iterdir():
            program.chmod(0o755)
        process = self.begin(STAY, TXTEST_PG_BIN=str(programs))
        watchdog = poll(lambda: watchdog_of(process.pid))
        self.assertTrue(watchdog)
        note = poll(
            lambda: next(
                (
                    file
                    for folder in folders_of(watchdog)
                    for file in folder.glob("data/child")
                    if file.read_text().strip()
                ),
                None,
            )
        )
        child = int(note.read_text())
        process.kill()
        process.wait(BOUND)
        self.assertTrue(poll(lambda: not watchdog_of(process.pid)))
        self.assertEqual(folders_of(watchdog), [])
        self.assertTrue(poll(lambda: child not in processes_with("sleep 600")))
