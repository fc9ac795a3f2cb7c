"""The server itself: that it can be reached, shared, and run by anybody."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from django_txtest.embedded.binaries import Found, search

from .support import (
    BOUND,
    ROOT,
    ServerTestCase,
    clean_environment,
    connect,
    folders_of,
    processes_with,
    watchdog_of,
)

STAY = "time.sleep(600)"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def ask(host, statement):
    with contextlib.closing(connect(host)) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall()


class ServerTests(ServerTestCase):
    def test_settings_entry(self):
        process, host = self.begin_server("print(json.dumps(database), flush=True)")
        self.assertEqual(
            json.loads(process.stdout.readline()),
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "PASSWORD": "",
                "HOST": host,
                "PORT": "5432",
            },
        )

    def test_configuration(self):
        _, host = self.begin_server(STAY)
        names = {
            "listen_addresses": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
            "max_connections": "200",
            "deadlock_timeout": "1s",
        }
        for name, value in names.items():
            with self.subTest(name):
                self.assertEqual(ask(host, f"SHOW {name}"), [(value,)])

    def test_letters_beyond_ascii_know_their_case(self):
        _, host = self.begin_server(STAY)
        statement = "SELECT upper('éøж'), 'ÉLAN VITAL' ILIKE '%élan%'"
        self.assertEqual(ask(host, statement), [("ÉØЖ", True)])

    def test_nobody_else_can_enter(self):
        _, host = self.begin_server(STAY)
        folder = Path(host).stat()
        self.assertEqual(folder.st_mode & 0o777, 0o700)
        server = processes_with(host)[0]
        if Path("/proc/self").exists():
            self.assertEqual(Path(f"/proc/{server}").stat().st_uid, folder.st_uid)

    def test_the_account_is_one_that_postgres_accepts(self):
        process, host = self.begin_server(STAY)
        owner = Path(host).stat().st_uid
        if IS_ROOT:
            import pwd

            self.assertEqual(owner, pwd.getpwnam("nobody").pw_uid)
        else:
            self.assertEqual(owner, os.geteuid())
        self.assertIsNotNone(watchdog_of(process.pid))

    @skipUnless(IS_ROOT, "an ordinary user needs no copy")
    def test_programs_out_of_reach_are_copied_and_removed(self):
        locked = self.temporary_folder(mode=0o700)
        programs = next(p.folder for p in search() if isinstance(p, Found))
        (locked / "bin").symlink_to(programs, target_is_directory=True)
        process, host = self.begin_server(STAY, TXTEST_PG_BIN=str(locked / "bin"))
        self.assertEqual(ask(host, "SELECT 1"), [(1,)])
        watchdog = watchdog_of(process.pid)
        copies = [
            p for p in Path("/tmp").glob(f"txtest-{watchdog}-*") if str(p) != host
        ]
        self.assertEqual(len(copies), 1)
        process.kill()
        self.assertGone(host, process.pid)
        self.assertFalse(copies[0].exists())

    @skipUnless(IS_ROOT, "an ordinary user runs what he can reach")
    def test_programs_within_reach_are_not_copied(self):
        process, host = self.begin_server(STAY)
        copies = Path("/tmp").glob(f"txtest-{watchdog_of(process.pid)}-*")
        programs = next(p.folder for p in search() if isinstance(p, Found))
        if all(parent.stat().st_mode & 0o001 for parent in programs.parents):
            self.assertEqual([p for p in copies if str(p) != host], [])

    def test_a_temporary_folder_with_a_long_name_and_spaces(self):
        folder = self.temporary_folder() / ("long " * 20)
        folder.mkdir()
        _, host = self.begin_server(STAY, TMPDIR=str(folder))
        self.assertEqual(ask(host, "SELECT 1"), [(1,)])

    def test_no_room_in_memory(self):
        script = (
            "from contextlib import ExitStack\n"
            "from django_txtest.embedded import account, folders\n"
            "folders._has_room = lambda folder: False\n"
            "with ExitStack() as cleanup:\n"
            "    who = account.Account.choose()\n"
            "    print(folders.cluster_folder(who, cleanup), flush=True)\n"
        )
        process = self.begin(script, prelude="")
        self.assertNotIn("/dev/shm", process.stdout.readline())
        self.assertEqual(process.wait(BOUND), 0)


class SharingTests(ServerTestCase):
    def test_child_processes_share_it(self):
        script = (
            "import multiprocessing, subprocess\n"
            "code = 'from django_txtest import embedded;'\n"
            "code += 'print(embedded.postgresql()[\"HOST\"])'\n"
            "subprocess.run([sys.executable, '-c', code], check=True)\n"
            "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
            "    print(pool.apply(embedded.postgresql)['HOST'], flush=True)\n"
            "print(embedded.postgresql()['HOST'], flush=True)\n" + STAY
        )
        process, host = self.begin_server(script)
        for _ in range(3):
            self.assertEqual(process.stdout.readline().strip(), host)
        connect(host).close()

    def test_threads_share_it(self):
        prelude = (
            "import time\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "from django_txtest import embedded\n"
            "from django_txtest.embedded.launcher import running\n"
            "with ThreadPoolExecutor(4) as pool:\n"
            "    calls = [pool.submit(embedded.postgresql) for _ in range(4)]\n"
            "print(len({call.result()['HOST'] for call in calls}), flush=True)\n"
        )
        process = self.begin("", prelude=prelude)
        self.assertEqual(process.stdout.readline().strip(), "1")

    def test_a_server_that_is_gone_is_not_reused(self):
        process, host = self.begin_server()
        process.wait(BOUND)
        stale = json.dumps({"host": host})
        for value in (stale, "{}", "nonsense", "5"):
            with self.subTest(value):
                _, other = self.begin_server(STAY, TXTEST_EMBEDDED=value)
                self.assertNotEqual(other, host)
                connect(other).close()

    def test_a_server_that_died_is_replaced(self):
        script = (
            "from tests.embedded.support import poll, processes_with\n"
            "for pid in processes_with(database['HOST']):\n"
            "    os.kill(pid, signal.SIGKILL)\n"
            "poll(lambda: not os.path.exists(database['HOST']))\n"
            "embedded.postgresql()\n"
            "print(running().dumps(), flush=True)\n" + STAY
        )
        process, host = self.begin_server(script)
        other = json.loads(process.stdout.readline())["host"]
        self.assertFalse(Path(host).exists())
        self.assertEqual(ask(other, "SELECT 1"), [(1,)])

    def test_several_at_the_same_time(self):
        scripts = [self.begin(STAY) for _ in range(3)]
        hosts = {json.loads(process.stdout.readline())["host"] for process in scripts}
        self.assertEqual(len(hosts), 3)
        for host in hosts:
            self.assertEqual(ask(host, "SELECT 1"), [(1,)])


class CommandTests(ServerTestCase):
    def run_module(self, *arguments, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "django_txtest.embedded", *arguments],
            cwd=ROOT,
            env=clean_environment(**options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_it_prints_a_url_and_runs_until_the_end_of_input(self):
        import dj_database_url

        process = self.run_module()
        self.addCleanup(self.end, process)
        host = dj_database_url.parse(process.stdout.readline().strip())["HOST"]
        self.assertEqual(ask(host, "SELECT 1"), [(1,)])
        process.communicate("", timeout=BOUND)
        self.assertEqual(process.returncode, 0)
        self.assertFalse(Path(host).exists())

    def test_it_ends_at_a_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                process = self.run_module()
                self.addCleanup(self.end, process)
                process.stdout.readline()
                folder = folders_of(process.pid)[0]
                process.send_signal(number)
                self.assertEqual(process.wait(BOUND), 0)
                self.assertFalse(folder.exists())

    def test_help(self):
        process = self.run_module("--help")
        output, _ = process.communicate(timeout=BOUND)
        self.assertEqual(process.returncode, 0)
        self.assertIn("until Ctrl-C", output)

    def test_nothing_found(self):
        process = self.run_module(TXTEST_PG_BIN="/nowhere")
        _, errors = process.communicate(timeout=BOUND)
        self.assertEqual(process.returncode, 1)
        self.assertIn("TXTEST_PG_BIN is '/nowhere'", errors)
        self.assertNotIn("Traceback", errors)
