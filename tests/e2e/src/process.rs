//! A process, mostly `pelton`: started, told to stop, or killed. One that is dropped is killed, so that no test leaves any behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Of what a process said that ended with an error, so much is shown, the last of it.
const SHOWN_LINES: usize = 20;

/// A running process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it said.
    pub log: PathBuf,
}

/// The `pelton` binary: `PELTON_BIN`, or the one built beside this program.
///
/// # Errors
/// When there is none.
pub fn pelton() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PELTON_BIN") {
        return Ok(path.into());
    }
    let me = std::env::current_exe()?;
    let beside = me.ancestors().map(|folder| folder.join("pelton")).find(|path| path.is_file());
    beside.context("no pelton binary beside this program; build it with `make build`, or name it in PELTON_BIN")
}

/// A component built by `make guests`.
///
/// # Errors
/// When it is not there.
pub fn component(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let file = format!("wasm32-wasip2/guest/{name}.wasm");
    let built = me.ancestors().map(|folder| folder.join(&file)).find(|path| path.is_file());
    built.with_context(|| format!("{file} is not built; run `make guests`"))
}

impl Process {
    /// Starts `pelton` with these arguments and environment, its output appended to a log file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(args: &[&str], environment: &[(&str, &str)], log: &Path) -> Result<Self> {
        let mut command = Command::new(pelton()?);
        command.args(args).envs(environment.iter().copied());
        Self::spawn(command, log)
    }

    /// Starts `pelton` with these arguments, after what a shell is to do before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_under(before: &str, args: &[&str], log: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before} && exec \"$0\" \"$@\"")]).arg(pelton()?).args(args);
        Self::spawn(command, log)
    }

    /// Starts a program, its output appended to a log file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { child, log: log.into() })
    }

    /// The system's number of it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a power cut would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, as an orchestrator would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Sends it a signal by its name, as `TERM`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        if !status.success() {
            bail!("kill -{name} {} failed", self.child.id());
        }
        Ok(())
    }

    /// Kills the processes that it started, and says how many those were. Linux only.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill_children(&self) -> Result<usize> {
        let mut killed = 0;
        for entry in std::fs::read_dir("/proc")? {
            let folder = entry?.path();
            // What is no process, or has ended meanwhile, has none.
            let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
            // The name, in brackets, may hold anything; its state and its parent follow.
            let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
            let runs = fields.next() != Some("Z");
            if runs && fields.next().and_then(|parent| parent.parse().ok()) == Some(self.child.id()) {
                let id = folder.file_name().context("a process has a number")?;
                killed += usize::from(Command::new("kill").arg("-KILL").arg(id).status()?.success());
            }
        }
        Ok(killed)
    }

    /// Whether it ended, and how.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it goes on for longer than the limit.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_for("the process to end", limit, || self.ended())
    }

    /// Everything it said.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let ended = self.child.wait();
        // One that was killed has no exit code.
        if ended.is_ok_and(|status| status.code().is_some_and(|code| code != 0)) {
            let said = self.said().unwrap_or_default();
            let from = said.lines().count().saturating_sub(SHOWN_LINES);
            said.lines().skip(from).for_each(|line| eprintln!("{}: {line}", self.log.display()));
        }
    }
}

/// Runs a command to its end: its exit code, what it printed and what it said.
///
/// # Errors
/// When it cannot be started.
pub fn pelton_says(args: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(pelton()?).args(args).stdin(Stdio::null()).output().context("starting pelton")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none within the limit, or asking failed.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if began.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
