use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to say that nothing came.
const A_WHILE: Duration = Duration::from_millis(150);

/// A proxy in front of node 2, behind which an echo answers, and a process that looks like node 1 and is a line to node 2.
struct Line {
    proxy: Proxy,
    child: Child,
    said: std::sync::mpsc::Receiver<Option<u8>>,
    _dir: tempfile::TempDir,
}

impl Line {
    /// A port that was free a moment ago may be another test's by now: then others are tried.
    async fn open() -> Result<Self> {
        loop {
            let opened = Self::try_open().await;
            let taken = |error: &anyhow::Error| {
                let error = error.downcast_ref::<std::io::Error>();
                error.is_some_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
            };
            match opened {
                Err(error) if taken(&error) => {}
                opened => return opened,
            }
        }
    }

    async fn try_open() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let proxy = Proxy::start(dir.path(), 2).await?;
        let place = proxy.places[&2].clone();
        let listener = TcpListener::bind(place.listen.context("an address")?).await?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let addr = place.advertise.context("an address")?;
        let port = addr.rsplit(':').next().context("a port")?;
        // Bash speaks TCP, keeps its arguments, and a `cat` each way would be other processes.
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; while IFS= read -r -n1 c; do printf %s \"$c\" >&3 || exit 1; \
             IFS= read -r -n1 -u3 d || exit 1; printf %s \"$d\"; done"
        );
        let mut child = Command::new("bash")
            .args(["-c", &script, "--config"])
            .arg(dir.path().join("node-1/halite.yml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = child.stdout.take().context("a pipe")?;
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while stdout.read_exact(&mut byte).is_ok() && said.send(Some(byte[0])).is_ok() {}
            let _ = said.send(None);
        });
        Ok(Self {
            proxy,
            child,
            said: heard,
            _dir: dir,
        })
    }

    fn say(&mut self, byte: u8) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("a pipe")?;
        Ok(stdin.write_all(&[byte])?)
    }

    /// The echo; `None` when the line is dead.
    async fn hear(&self, within: Duration) -> Option<Option<u8>> {
        let deadline = Instant::now() + within;
        loop {
            match self.said.try_recv() {
                Ok(said) => return Some(said),
                Err(_) if Instant::now() > deadline => return None,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    async fn echo(&mut self, byte: u8) -> Result<()> {
        self.say(byte)?;
        anyhow::ensure!(self.hear(PATIENCE).await == Some(Some(byte)));
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_apart_and_each_direction_is_cut_alone() -> Result<()> {
    let mut line = Line::open().await?;
    line.echo(b'a').await?;
    assert_eq!(line.proxy.connections(1, 2), 1);
    assert_eq!(line.proxy.connections(2, 1), 0);
    for (from, to) in [(1, 2), (2, 1)] {
        line.proxy.set(from, to, Conditions::cut());
        line.say(b'b')?;
        assert_eq!(line.hear(A_WHILE).await, None, "{from} to {to} is cut");
        // A client is not node 1.
        let addr = line.proxy.places[&2]
            .advertise
            .clone()
            .context("an address")?;
        let echoed = tokio::task::spawn_blocking(move || -> Result<u8> {
            let mut client = std::net::TcpStream::connect(addr)?;
            client.set_read_timeout(Some(PATIENCE))?;
            client.write_all(b"x")?;
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            Ok(byte[0])
        });
        assert_eq!(echoed.await??, b'x');
        line.proxy.heal();
        assert_eq!(line.hear(PATIENCE).await, Some(Some(b'b')));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_late_and_slow_as_told() -> Result<()> {
    let mut line = Line::open().await?;
    line.echo(b'a').await?;
    let delay = Duration::from_millis(60);
    let jitter = Duration::from_millis(10);
    line.proxy.set_all(Conditions::delayed(delay, jitter));
    let began = Instant::now();
    line.echo(b'b').await?;
    assert!(began.elapsed() >= delay * 2);
    line.proxy.set_all(Conditions::narrow(10));
    let began = Instant::now();
    line.echo(b'c').await?;
    assert!(began.elapsed() >= Duration::from_millis(190));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reset_or_lost() -> Result<()> {
    let mut line = Line::open().await?;
    line.echo(b'a').await?;
    assert_eq!(line.proxy.lose_connections(), 1);
    line.say(b'b')?;
    assert_eq!(line.hear(A_WHILE).await, None, "lost without a word");
    let mut line = Line::open().await?;
    line.echo(b'a').await?;
    assert_eq!(line.proxy.reset_connections(), 1);
    line.say(b'b')?;
    assert_eq!(line.hear(PATIENCE).await, Some(None), "reset");
    Ok(())
}
