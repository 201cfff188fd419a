//! The commands of the guide do what it says: every `console` block of `node/docs` is run, one chapter after the other, each in a folder of its own.
//!
//! A line that begins with `$ ` is a command, what follows is its output, on both streams; `…` stands for anything, on a line of its own for any lines. A
//! command that ends with ` &` goes on in the background, and is stopped with its chapter. In a block `console,until` a command is repeated until it says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use halite_tests::cluster::PATIENCE;
use halite_tests::program;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::dev::base_port;

/// Ports that chapters name, in their order.
const PORTS: [&str; 3] = ["7420", "7421", "7422"];

fn chapters() -> Result<BTreeMap<String, String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/docs/src");
    let mut chapters = BTreeMap::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        chapters.insert(name, std::fs::read_to_string(&path)?);
    }
    Ok(chapters)
}

#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
    until: bool,
}

fn steps(chapter: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut until = None;
    for line in chapter.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            until = match kind {
                "console" => Some(false),
                "console,until" => Some(true),
                _ => None,
            };
        } else if let Some(until) = until {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    output: Vec::new(),
                    until,
                }),
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => {}
            }
        }
    }
    steps
}

/// Whether the text is what the pattern says, with `…` for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn fit(wanted: &[String], said: &[String]) -> bool {
    match (wanted, said) {
        ([], said) => said.is_empty(),
        ([any, wanted @ ..], said) if any == "…" => {
            (0..=said.len()).any(|passed| fit(wanted, &said[passed..]))
        }
        ([first, wanted @ ..], [line, said @ ..]) => fits(first, line) && fit(wanted, said),
        (_, []) => false,
    }
}

/// Its lines, with one space for several: a port of another length moves columns.
fn lines(text: &str) -> Vec<String> {
    let one = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(one).collect()
}

/// Where a chapter is played.
struct Stage {
    folder: PathBuf,
    ports: Vec<String>,
    /// What later commands find in their environment.
    exported: BTreeMap<String, String>,
    background: Vec<Child>,
}

impl Stage {
    fn new(folder: PathBuf) -> Result<Self> {
        let first: u16 = base_port(3)?.parse()?;
        let ports: Vec<String> = (first..)
            .take(PORTS.len())
            .map(|port| port.to_string())
            .collect();
        std::fs::create_dir(&folder)?;
        let addr = format!("127.0.0.1:{first}");
        Ok(Self {
            folder,
            ports,
            exported: [("HALITE_ADDR".to_owned(), addr)].into(),
            background: Vec::new(),
        })
    }

    /// With the ports that are free here.
    fn here(&self, text: &str) -> String {
        PORTS
            .iter()
            .zip(&self.ports)
            .fold(text.to_owned(), |text, (named, port)| {
                text.replace(named, port)
            })
    }

    fn shell(&self, command: &str) -> Command {
        let programs = program::halite();
        let programs = programs.parent().map(Path::to_path_buf).unwrap_or_default();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", programs.display()))
            .envs(&self.exported)
            .stdin(Stdio::null());
        shell
    }

    async fn play(&mut self, step: &Step) -> Result<()> {
        let command = self.here(&step.command);
        let wanted = lines(&self.here(&step.output.join("\n")));
        if let Some((name, value)) = command
            .strip_prefix("export ")
            .and_then(|set| set.split_once('='))
        {
            self.exported.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(command) = command.strip_suffix(" &") {
            return self.begin(command, &wanted).await;
        }
        let once = async || {
            let output = self.shell(&format!("exec 2>&1; {command}")).output();
            let said = lines(&String::from_utf8_lossy(
                &output.map_err(|e| e.to_string())?.stdout,
            ));
            fit(&wanted, &said).then_some(()).ok_or(said.join("\n"))
        };
        if step.until {
            return wait::until(&command, PATIENCE, once).await;
        }
        once()
            .await
            .map_err(|said| anyhow::anyhow!("it said:\n{said}\ninstead of:\n{}", wanted.join("\n")))
    }

    /// Goes on when the command has said what it is to say, and a node answers.
    async fn begin(&mut self, command: &str, wanted: &[String]) -> Result<()> {
        let out = self
            .folder
            .join(format!(".background-{}", self.background.len()));
        let command = command
            .replace(
                "halite dev",
                &format!("halite dev --base-port {}", self.ports[0]),
            )
            .replace(
                "halite serve",
                &format!("halite serve --listen 127.0.0.1:{}", self.ports[0]),
            );
        let file = std::fs::File::create(&out)?;
        let child = self
            .shell(&format!("exec {command}"))
            .stdout(file.try_clone()?)
            .stderr(Stdio::null())
            .spawn()?;
        self.background.push(child);
        wait::until(&command, PATIENCE, async || {
            let said = lines(&std::fs::read_to_string(&out).map_err(|e| e.to_string())?);
            fit(wanted, &said).then_some(()).ok_or(said.join("\n"))
        })
        .await?;
        wait::until("writes are taken", PATIENCE, async || {
            let output = self.shell("halite status").output();
            let said =
                String::from_utf8_lossy(&output.map_err(|e| e.to_string())?.stdout).into_owned();
            said.contains(": takes writes").then_some(()).ok_or(said)
        })
        .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.background {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::INT);
            }
            let _ = child.wait();
        }
    }
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    run("guide", Weight::Heavy, async |scratch| {
        let mut played = 0;
        for (name, text) in chapters()? {
            let steps = steps(&text);
            if steps.is_empty() {
                continue;
            }
            let mut stage = Stage::new(scratch.join(&name))?;
            for step in steps {
                let done = stage.play(&step).await;
                done.with_context(|| format!("{name}: $ {}", step.command))?;
                played += 1;
            }
        }
        ensure!(played > 20, "{played} commands");
        Ok(())
    });
}

#[test]
fn links_between_chapters_lead_somewhere() -> Result<()> {
    let chapters = chapters()?;
    for (name, text) in &chapters {
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let Some(file) = link
                .0
                .split('#')
                .next()
                .and_then(|link| link.strip_suffix(".md"))
            else {
                continue;
            };
            if !file.starts_with("http") && !chapters.contains_key(file) {
                bail!("{name} links to {file}.md, which is not there");
            }
        }
        if name != "SUMMARY" {
            ensure!(
                chapters["SUMMARY"].contains(&format!("({name}.md)")),
                "{name} is not in the summary"
            );
        }
    }
    Ok(())
}

#[test]
fn what_stands_for_anything_fits_anything_else_does_not() {
    let of =
        |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
    for (wanted, said, is_so) in [
        (&["a…c"][..], &["abc"][..], true),
        (&["a…c"], &["ab"], false),
        (&["…", "b"], &["x", "y", "b"], true),
        (&["…", "b"], &["x", "y"], false),
        (&["a"], &["a", "b"], false),
        (&["a", "…"], &["a"], true),
    ] {
        assert_eq!(fit(&of(wanted), &of(said)), is_so, "{wanted:?} {said:?}");
    }
}
