//! One server process, and who else works in its data directory.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;

/// A `mixmatch serve`.
pub struct Server {
    child: Child,
    pub base: String,
    pub client: Client,
    data: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one on `data`, with these failure points, and waits until it listens; none where it ended instead.
    pub fn start(data: &Path, fail: &str) -> Result<Self, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixmatch"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--devices", "cpu", "--checkpoint-seconds", "0", "--data-dir"])
            .arg(data)
            .env("MIXMATCH_FAIL", fail)
            .env_remove("MIXMATCH_API_KEY")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: one async-signal-safe call between fork and exec; a test that is killed leaves no server behind.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, (found, address)) = (Arc::clone(&log), mpsc::channel());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let _ = found.send(rest.split(',').next().unwrap().to_owned());
                }
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        // The other end goes with the process: that ends the wait as well.
        match address.recv_timeout(Duration::from_secs(120)) {
            Ok(base) => Ok(Self { child, base, client: Client::new(), data: data.to_owned(), log }),
            Err(_) => {
                let _ = child.kill();
                let status = child.wait().unwrap();
                std::thread::sleep(Duration::from_millis(200));
                Err(format!("{status}\n{}", log.lock().unwrap()))
            }
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for its end, and until nobody works in its directory any more.
    pub fn wait(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        let started = Instant::now();
        while !children(&self.data).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30), "a child outlived its server: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        status
    }

    /// Kills it as `kill -9` does.
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.wait().signal(), Some(libc::SIGKILL));
    }

    /// Asks it to stop in order.
    pub fn stop(self) {
        self.signal(libc::SIGTERM);
        let log = Arc::clone(&self.log);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", log.lock().unwrap());
    }

    /// True while it has not ended.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The JSON at a path; none where the server is gone.
    pub async fn get(&self, path: &str) -> Option<Value> {
        self.client.get(format!("{}{path}", self.base)).send().await.ok()?.json().await.ok()
    }

    /// Status and JSON of a POST without a body.
    pub async fn post(&self, path: &str) -> Option<(u16, Value)> {
        let answer = self.client.post(format!("{}{path}", self.base)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever a test asserts before, nothing is left running; a second kill of what has ended does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes whose working directory is under `data`: the children at work.
pub fn children(data: &Path) -> Vec<i32> {
    let data = data.canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // A run's directory may be gone already; the link then says so behind its name.
        let directory = std::fs::read_link(entry.path().join("cwd")).ok()?;
        directory.starts_with(&data).then_some(pid)
    };
    processes.filter_map(pid).collect()
}
