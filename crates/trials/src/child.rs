//! Children: this program started again, with a pipe from its output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a child may be silent before the trial fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running child. Killed when dropped.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts this program with these arguments.
    pub fn start(arguments: &[String]) -> Result<Running, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.stderr(Stdio::piped()).spawn().map_err(|e| format!("start: {e}"))?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take();
        std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            // A line counts once it is whole.
            while stdout.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let stderr = child.stderr.take();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.map(|stderr| stderr.take(64 << 10).read_to_string(&mut text));
            text
        });
        Ok(Running { stdin: child.stdin.take(), child, lines, errors: Some(errors) })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its next line; `None` once it has ended.
    pub fn line(&self) -> Result<Option<String>, String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("a child was silent for {} s: it hangs", PATIENCE.as_secs()))
            }
        }
    }

    /// `kill -9`; gives all lines that were not read yet.
    pub fn kill(mut self) -> Result<(Vec<String>, ExitStatus, String), String> {
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for its end; gives all lines that were not read yet, and what it said on its error output.
    pub fn finish(mut self) -> Result<(Vec<String>, ExitStatus, String), String> {
        drop(self.stdin.take());
        self.wait()
    }

    fn wait(&mut self) -> Result<(Vec<String>, ExitStatus, String), String> {
        let mut rest = Vec::new();
        while let Some(line) = self.line()? {
            rest.push(line);
        }
        let status = self.child.wait().map_err(|e| format!("wait: {e}"))?;
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((rest, status, errors))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Words as arguments.
pub fn words(words: &[&dyn std::fmt::Display]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
