//! What keys and signals do to `halite sql`: Ctrl-C, with what is said of it, and Tab.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::gone_callers::{writer_is_free, writer_is_held};

/// Takes until somebody ends it.
const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t SELECT x FROM n WHERE x < 0;";

/// What the line editor sends when it has a line and gives the terminal back: Ctrl-C is a signal from then on, and no key.
const LINE_TAKEN: &str = "\u{1b}[?2004l";

fn halite(cluster: &TestCluster, args: &[&str]) -> Command {
    let addrs = cluster.local.addrs().join(",");
    let mut command = Command::new(program::halite());
    command.args(["--addr", &addrs]).args(args);
    command
}

fn piped(mut command: Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

fn script(cluster: &TestCluster, args: &[&str]) -> Result<Child> {
    let args = [
        &["sql", "--db", "app", "--timeout", "15s", "--mode", "csv"],
        args,
    ]
    .concat();
    piped(halite(cluster, &args))
}

/// Reads lines up to this one.
fn read_up_to(child: &mut Child, wanted: &str) -> Result<()> {
    let out = child.stdout.as_mut().context("a pipe")?;
    // Byte by byte: nothing that comes later is lost in a buffer.
    let mut lines = BufReader::with_capacity(1, out).lines();
    loop {
        let line = lines
            .next()
            .with_context(|| format!("no line {wanted}"))??;
        if line.contains(wanted) {
            return Ok(());
        }
    }
}

/// Ends the child by a signal: the exit code, and what it said on standard error.
fn ended_by(child: Child, signal: Signal) -> Result<(Option<i32>, String)> {
    kill_process(Pid::from_child(&child), signal)?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

#[test]
fn an_interrupted_script_says_what_became_of_it() {
    run("interrupted-script", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.client().await?.database("app");
        app.execute("CREATE TABLE t(a)", ()).await?;
        let unknown = "the write that was under way may or may not have been carried out";
        // One statement.
        let child = script(&cluster, &[ENDLESS])?;
        writer_is_held(&cluster).await?;
        let (code, said) = ended_by(child, Signal::INT)?;
        ensure!(
            code == Some(130) && said.contains(&format!("error: interrupted: {unknown}")),
            "{code:?} {said}"
        );
        // One of a script.
        writer_is_free(&cluster, "an interrupted statement").await?;
        let mut child = script(&cluster, &[])?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        write!(
            stdin,
            "INSERT INTO t\nVALUES(1);\n{ENDLESS}\nINSERT INTO t VALUES(2);\n"
        )?;
        writer_is_held(&cluster).await?;
        let (code, said) = ended_by(child, Signal::INT)?;
        ensure!(
            code == Some(130) && said.contains(&format!("interrupted at line 3: {unknown}")),
            "{code:?} {said}"
        );
        // A transaction in which somebody thinks.
        writer_is_free(&cluster, "an interrupted statement").await?;
        let mut child = script(&cluster, &[])?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        stdin.write_all(b"BEGIN;\nINSERT INTO t VALUES(3);\nSELECT 'within' AS v;\n")?;
        read_up_to(&mut child, "within")?;
        let (code, said) = ended_by(child, Signal::TERM)?;
        let gone = "interrupted at line 3: the open transaction was rolled back";
        ensure!(code == Some(143) && said.contains(gone), "{code:?} {said}");
        let kept = app.query("SELECT group_concat(a) FROM t", ()).await?;
        ensure!(kept[0].get::<String>(0)? == "1");
        // A read has nothing to be told.
        let mut child = script(
            &cluster,
            &[
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT 'row' FROM n",
            ],
        )?;
        read_up_to(&mut child, "row")?;
        let (code, said) = ended_by(child, Signal::INT)?;
        ensure!(
            code == Some(130) && said == "error: interrupted\n",
            "{code:?} {said}"
        );
        // This is how it is meant to end.
        let mut child = piped(halite(&cluster, &["status", "--watch"]))?;
        read_up_to(&mut child, "takes writes")?;
        let (code, said) = ended_by(child, Signal::INT)?;
        ensure!(code == Some(0) && said.is_empty(), "{code:?} {said}");
        Ok(())
    });
}

/// `halite sql` on a terminal of its own.
struct Prompt {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    /// What was shown up to here has been looked at.
    seen: usize,
}

impl Prompt {
    fn open(cluster: &TestCluster) -> Result<Prompt> {
        Self::open_for(cluster, "15s")
    }

    /// With the time that each statement may take.
    fn open_for(cluster: &TestCluster, timeout: &str) -> Result<Prompt> {
        let addrs = cluster.local.addrs().join(",");
        // Ctrl-C goes to all that run on the terminal, and some shells end by it once the program has ended.
        let line = format!(
            "trap : INT; {} --addr {addrs} sql --db app --timeout {timeout}; code=$?; echo ended with $code; stty -a; exit $code",
            program::halite().display()
        );
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("HALITE_HISTORY", "")
            .env("TERM", "xterm");
        let mut child = piped(command)?;
        let keys = child.stdin.take().context("a pipe")?;
        let mut out = child.stdout.take().context("a pipe")?;
        let shown = Arc::new(Mutex::new(String::new()));
        let screen = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]);
                screen.lock().expect("nobody panics").push_str(&text);
            }
        });
        Ok(Prompt {
            child,
            keys,
            shown,
            seen: 0,
        })
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits until this is shown, after what was waited for before.
    async fn shows(&mut self, words: &str) -> Result<()> {
        let seen = self.seen;
        let place = wait::until(words, PATIENCE, async || {
            let shown = self.shown.lock().expect("nobody panics");
            let at = shown[seen..].find(words);
            at.map(|at| seen + at + words.len()).ok_or(shown.clone())
        });
        self.seen = place.await?;
        Ok(())
    }

    /// The process of `halite sql`.
    fn shell(&self) -> Result<Pid> {
        let child = |of: u32| -> Result<u32> {
            let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
            let first = children.split_whitespace().next().context("a child")?;
            Ok(first.parse()?)
        };
        let shell = child(child(self.child.id())?)?;
        Pid::from_raw(i32::try_from(shell)?).context("a process")
    }

    /// Waits until it has ended well.
    async fn is_left(&mut self) -> Result<()> {
        let ended = wait::until("the prompt is left", PATIENCE, async || {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or(self.screen())
        });
        let ended = ended.await?;
        ensure!(ended.success(), "{ended}: {}", self.screen());
        Ok(())
    }

    fn screen(&self) -> String {
        self.shown.lock().expect("nobody panics").clone()
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // Without its terminal the prompt ends, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tab_completes_words_and_names() {
    run("completion", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut prompt = Prompt::open(&cluster)?;
        prompt.shows("app>").await?;
        prompt.press("CREATE TABLE of_many_letters(a);\r")?;
        prompt.shows("app>").await?;
        prompt.press("SELECT count(*) || ' rows' AS n FR\t of_m\t;\r")?;
        prompt.shows("| 0 rows |").await?;
        prompt.press(".ta\t\r")?;
        prompt.shows("\nof_many_letters").await?;
        prompt.press(".quit\r")?;
        prompt.is_left().await
    });
}

#[test]
fn the_prompt_goes_on_after_ctrl_c() {
    run("interrupted-prompt", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.client().await?.database("app");
        app.execute("CREATE TABLE t(a)", ()).await?;
        let mut prompt = Prompt::open(&cluster)?;
        prompt.shows("app>").await?;
        prompt.press(&format!("{ENDLESS}\r"))?;
        writer_is_held(&cluster).await?;
        // Once is enough: the prompt is there again.
        prompt.press("\x03")?;
        prompt.shows("may or may not have been carried out").await?;
        prompt.shows("app>").await?;
        prompt.press("SELECT 6 * 7 AS answer;\r")?;
        prompt.shows("42").await?;
        // With nothing under way only the line is gone.
        writer_is_free(&cluster, "an interrupted statement").await?;
        prompt.press("BEGIN;\r")?;
        prompt.shows("app*>").await?;
        prompt.press("INSERT INTO t VALUES(")?;
        prompt.shows("VALUES(").await?;
        prompt.press("\x03")?;
        prompt.shows("the transaction is still open").await?;
        prompt.shows("app*>").await?;
        // A statement of it takes it along.
        prompt.press("ROLLBACK;\r")?;
        prompt.shows("app>").await?;
        prompt.press("BEGIN;\r")?;
        prompt.shows("app*>").await?;
        prompt.press(&format!("{ENDLESS}\r"))?;
        prompt.shows(LINE_TAKEN).await?;
        prompt.press("\x03")?;
        prompt.shows("the open transaction was rolled back").await?;
        prompt.shows("app>").await?;
        prompt.press(".quit\r")?;
        prompt.is_left().await
    });
}

#[test]
fn a_signal_ends_a_waiting_prompt_and_gives_the_terminal_back() {
    run("terminated-prompt", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut prompt = Prompt::open(&cluster)?;
        prompt.shows("app>").await?;
        prompt.press("SELECT 'first' AS statement;\r")?;
        prompt.shows("| first").await?;
        prompt.shows("app>").await?;
        kill_process(prompt.shell()?, Signal::TERM)?;
        prompt.shows("ended with 143").await?;
        prompt.shows("icanon").await?;
        ensure!(!prompt.screen().contains("-icanon"), "{}", prompt.screen());
        Ok(())
    });
}

#[test]
fn lines_that_arrive_at_once_are_all_executed() {
    run("many-lines", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut prompt = Prompt::open(&cluster)?;
        prompt.shows("app>").await?;
        // As a program types them: without a mark around what is pasted.
        prompt.press(
            "CREATE TABLE t(a);\rINSERT INTO t VALUES(1),\r(2);\rINSERT INTO t VALUES(3); SELECT 'rows ' || count(*) AS n\rFROM t;\r.quit\r",
        )?;
        prompt.shows("| rows 3 |").await?;
        prompt.is_left().await
    });
}

#[test]
fn what_is_interrupted_while_nobody_can_be_reached_was_not_sent() {
    run("interrupted-unsent", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.client().await?.database("app");
        app.execute("CREATE TABLE t(a)", ()).await?;
        let mut prompt = Prompt::open_for(&cluster, "5s")?;
        prompt.shows("app>").await?;
        for id in cluster.ids() {
            cluster.kill(id)?;
        }
        // When its time is over, the client has noticed that its connections are gone.
        prompt.press("SELECT 1;\r")?;
        prompt.shows(LINE_TAKEN).await?;
        prompt.shows("app>").await?;
        prompt.press("DELETE FROM t;\r")?;
        prompt.shows(LINE_TAKEN).await?;
        prompt.press("\x03")?;
        let unsent = "interrupted: no node could be reached, nothing was sent";
        prompt.shows(unsent).await?;
        // A command that has not come to anybody either. It is heard, and not answered.
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        let addr = silent.local_addr()?.to_string();
        let mut command = Command::new(program::halite());
        command.args(["--addr", &addr, "db", "drop", "app"]);
        let child = piped(command)?;
        let heard = silent.accept()?;
        let (code, said) = ended_by(child, Signal::INT)?;
        drop(heard);
        let unsent = "interrupted: no node was reached, nothing was sent";
        ensure!(
            code == Some(130) && said.contains(unsent),
            "{code:?} {said}"
        );
        Ok(())
    });
}
