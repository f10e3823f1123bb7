//! One child process: started with its run specification on standard input, in a process group of its
//! own, at a lower priority on a CPU, and tied to the server's life (Linux' parent-death signal).
//!
//! The kernel sends that signal when the *thread* that forked ends, not the process. Tokio's worker and
//! blocking threads may end early, so children are forked on one thread that lives as long as the
//! supervisor ([`Launcher`]).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;

use super::lines::{LINE_LIMIT, Lines};
use super::slots::{Device, Slot};
use crate::openmp::WAITING;

/// How much of a child's standard error is kept: the end of it, where the reason stands.
const STDERR_KEPT: usize = 64 * 1024;

/// Where libtorch may lie that is not found beside the program.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// What is started for a run: normally this very binary with `work`, in tests a stand-in.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables on top of the server's own.
    pub env: Vec<(OsString, OsString)>,
}

impl ChildCommand {
    /// This binary's hidden `work` command: the very file that runs, though another lies under its name by now, or none. A child of
    /// another version would not be understood.
    ///
    /// # Errors
    /// When the binary's own path cannot be found.
    pub fn own() -> std::io::Result<Self> {
        let itself = PathBuf::from("/proc/self/exe");
        let program = if itself.exists() { itself } else { std::env::current_exe()? };
        Ok(Self { program, args: vec!["work".into()], env: Vec::new() })
    }
}

/// Starts children, always from the same long-lived thread.
#[derive(Debug, Clone)]
pub struct Launcher {
    queue: std::sync::mpsc::Sender<Order>,
}

struct Order {
    command: Command,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

impl Launcher {
    /// Starts the forking thread; it ends with the last clone of the launcher.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start() -> std::io::Result<Self> {
        let (queue, orders) = std::sync::mpsc::channel::<Order>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("mixmatch-fork".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            for Order { mut command, answer } in orders {
                // If nobody waits any more the child is dropped here, and killed (`kill_on_drop`).
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self { queue })
    }

    /// Starts `command` for `slot` in `run_dir`.
    ///
    /// # Errors
    /// When the program is not there or the system refuses another process.
    pub async fn spawn(&self, command: &ChildCommand, slot: &Slot, run_dir: &Path) -> std::io::Result<Running> {
        let (answer, started) = oneshot::channel();
        let gone = || std::io::Error::other("the thread that starts processes is gone");
        self.queue.send(Order { command: prepare(command, slot, run_dir), answer }).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?.map(Running::new)
    }
}

fn prepare(command: &ChildCommand, slot: &Slot, run_dir: &Path) -> Command {
    let mut prepared = Command::new(&command.program);
    prepared
        // Whatever the file is found by, `ps` shows the program's name.
        .arg0("mixmatch")
        .args(&command.args)
        .current_dir(run_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        // Also where the server was told to wait in another way: predictions are to keep breathing.
        .envs(WAITING)
        .env("OMP_NUM_THREADS", slot.threads.to_string())
        // MKL chooses among its ways by where memory happens to lie, and a run that goes on would differ in its last bits. This one
        // is the same for any place; it costs float32 up to 4 %, bf16 is oneDNN's.
        .env("MKL_CBWR", "COMPATIBLE")
        .env_remove("MIXMATCH_API_KEY");
    match slot.device {
        // -1 rather than the empty string: both hide every GPU, but some tools read "" as unset.
        Device::Cpu => prepared.env("CUDA_VISIBLE_DEVICES", "-1"),
        Device::Cuda(index) => {
            let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
            prepared.env("CUDA_VISIBLE_DEVICES", visible_device(visible.as_deref(), index))
        }
    };
    prepared.envs(command.env.iter().map(|(name, value)| (name, value)));
    let own = command.env.iter().find(|(name, _)| name == LIBRARIES).map(|(_, places)| places.clone());
    if let Some(places) = own.or_else(|| std::env::var_os(LIBRARIES)).as_deref().and_then(seen_from_here) {
        prepared.env(LIBRARIES, places);
    }

    let server = std::process::id();
    let lower_priority = slot.device == Device::Cpu;
    // SAFETY: between fork and exec only async-signal-safe system calls are made, and nothing allocates.
    unsafe {
        prepared.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The server may have died between fork and prctl; then no signal will come.
            if libc::getppid() as u32 != server {
                libc::_exit(1);
            }
            if lower_priority {
                // As polite as can be: at 10, predictions beside it waited 80 ms for a core in one case of a hundred.
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
            }
            Ok(())
        });
    }
    prepared
}

/// The same places of libraries for a process that works in another directory. None where there are none, or where they cannot be told.
fn seen_from_here(places: &OsStr) -> Option<OsString> {
    if places.is_empty() {
        return None;
    }
    // As ld.so(8) reads it: without a way to write a separator itself.
    let places = places.as_bytes().split(|byte| b":;".contains(byte)).map(|place| absolute(OsStr::from_bytes(place)));
    let places: Vec<OsString> = places.collect::<std::io::Result<_>>().ok()?;
    Some(places.join(OsStr::new(":")))
}

/// A place of libraries from the root on: an empty one is the working directory.
fn absolute(place: &OsStr) -> std::io::Result<OsString> {
    let path = Path::new(place);
    if path.starts_with("$ORIGIN") || path.starts_with("${ORIGIN}") {
        // The program's own directory, whichever that is.
        return Ok(place.to_owned());
    }
    let path = if place.is_empty() { std::env::current_dir() } else { std::path::absolute(path) };
    path.map(PathBuf::into_os_string)
}

/// The name of the server's `index`-th GPU for its child: the server may itself see only some, those that are `visible` to it.
fn visible_device(visible: Option<&str>, index: u32) -> String {
    visible
        .and_then(|visible| visible.split(',').nth(index as usize))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| index.to_string())
}

/// A started child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: i32,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_reader: tokio::task::JoinHandle<()>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let pid = child.id().map_or(0, |id| id as i32);
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut pipe = child.stderr.take().expect("stderr is piped");
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&stderr);
        let stderr_reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
                let mut kept = kept.lock().expect("no panic while held");
                kept.extend(&chunk[..length]);
                let excess = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..excess);
            }
        });
        Self { child, pid, lines: Some(Lines::new(BufReader::new(stdout), LINE_LIMIT)), stderr, stderr_reader }
    }

    /// Its standard output, line by line; can be taken once.
    pub fn take_lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        self.lines.take().expect("the lines are taken once")
    }

    /// The process id, which is also its process group's.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Writes the specification and closes the pipe. A child that does not read it is no error here: its
    /// exit tells more.
    pub async fn tell(&mut self, specification: &[u8]) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let write = async {
                stdin.write_all(specification).await?;
                stdin.shutdown().await
            };
            let _ = tokio::time::timeout(std::time::Duration::from_secs(10), write).await;
        }
    }

    /// Asks the whole process group to stop.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Ends the whole process group at once.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        // Once the child has been waited for, its number may be somebody else's.
        if self.pid > 0 && self.child.id().is_some() {
            // SAFETY: a plain system call; the group is the child's own (`process_group(0)`).
            unsafe { libc::kill(-self.pid, signal) };
        }
    }

    /// Waits for the end. Cancel-safe.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The end of what the child wrote to standard error, after it has ended.
    pub async fn stderr(&mut self) -> String {
        // A grandchild may hold the pipe open; what is there after a second is what we keep.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), &mut self.stderr_reader).await;
        let kept = self.stderr.lock().expect("no panic while held");
        let bytes: Vec<u8> = kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `kill_on_drop` ends the child alone; its group goes with it.
        self.kill();
        self.stderr_reader.abort();
    }
}

/// Why a child that published nothing ended, for a person.
pub fn explain(status: ExitStatus) -> (&'static str, String) {
    if let Some(signal) = status.signal() {
        let meaning = match signal {
            libc::SIGKILL => "probably the system ran out of memory; try a smaller batch, size or network",
            libc::SIGSEGV => "a crash inside a native library",
            libc::SIGABRT => "libtorch or the C++ runtime gave up; the log's last lines say why",
            libc::SIGBUS => "a mapped file shrank or the disk is full",
            libc::SIGILL => "this processor lacks an instruction that libtorch wanted",
            libc::SIGTERM | libc::SIGINT => "somebody outside mixmatch stopped it",
            _ => "an unexpected signal",
        };
        return ("killed_by_signal", format!("the run was killed by signal {signal} ({}): {meaning}", name(signal)));
    }
    match status.code() {
        Some(0) => ("no_model", "the run ended without an error, but also without a model".to_owned()),
        Some(code) => {
            ("exited", format!("the run ended with exit code {code} without saying why; see the log's last lines"))
        }
        None => ("exited", "the run ended in an unknown way".to_owned()),
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        _ => "see signal(7)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot { index: 0, device: Device::Cpu, threads: 3 }
    }

    fn shell(script: &str) -> ChildCommand {
        ChildCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], env: Vec::new() }
    }

    async fn run(script: &str) -> (Vec<String>, ExitStatus, String) {
        outcome(&shell(script)).await
    }

    async fn outcome(command: &ChildCommand) -> (Vec<String>, ExitStatus, String) {
        let directory = tempfile::tempdir().unwrap();
        let launcher = Launcher::start().unwrap();
        let mut child = launcher.spawn(command, &slot(), directory.path()).await.unwrap();
        child.tell(b"{\"hello\":1}\n").await;
        let mut lines = Vec::new();
        let mut output = child.take_lines();
        while let Some(line) = output.next().await.unwrap() {
            if let super::super::lines::Line::Whole(line) = line {
                lines.push(line);
            }
        }
        let status = child.wait().await.unwrap();
        let stderr = child.stderr().await;
        (lines, status, stderr)
    }

    #[tokio::test]
    async fn a_child_reads_its_specification_and_sees_only_its_slot() {
        let (lines, status, stderr) =
            run("cat; echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $OMP_WAIT_POLICY $GOMP_SPINCOUNT $MKL_CBWR; nice; echo why >&2")
                .await;
        assert_eq!(lines[..2], ["{\"hello\":1}", "-1 3 PASSIVE 1000 COMPATIBLE"]);
        assert_eq!(lines[2].parse::<i32>().unwrap(), 19, "the lowest priority");
        assert!(status.success());
        assert_eq!(stderr, "why");
    }

    #[test]
    fn a_child_sees_the_gpu_that_its_slot_means_and_no_key() {
        assert_eq!([0, 1].map(|index| visible_device(Some("2, GPU-5"), index)), ["2", "GPU-5"]);
        assert_eq!([None, Some("")].map(|visible| visible_device(visible, 3)), ["3", "3"]);
        let prepared = prepare(&shell("true"), &slot(), Path::new("/"));
        let key = prepared.as_std().get_envs().find(|(name, _)| *name == "MIXMATCH_API_KEY");
        assert_eq!(key, Some((OsStr::new("MIXMATCH_API_KEY"), None)), "it is taken out of what a child inherits");
    }

    #[tokio::test]
    async fn a_child_finds_libraries_where_its_server_does() {
        let env = vec![(LIBRARIES.into(), "lib/torch:/opt/a;:$ORIGIN/b".into())];
        let (lines, _, _) = outcome(&ChildCommand { env, ..shell("echo $LD_LIBRARY_PATH") }).await;
        let here = std::env::current_dir().unwrap().display().to_string();
        assert_eq!(lines, [format!("{here}/lib/torch:/opt/a:{here}:$ORIGIN/b")]);
        assert_eq!(seen_from_here(OsStr::new("")), None);
    }

    #[tokio::test]
    async fn a_signal_is_explained() {
        let (_, status, _) = run("kill -9 $$").await;
        let (code, text) = explain(status);
        assert_eq!(code, "killed_by_signal");
        assert!(text.contains("signal 9") && text.contains("memory"), "{text}");
    }

    #[tokio::test]
    async fn only_the_end_of_standard_error_is_kept() {
        let (_, _, stderr) = run("head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2").await;
        assert!(stderr.len() <= STDERR_KEPT, "{}", stderr.len());
        assert!(stderr.ends_with("the end"));
    }

    #[tokio::test]
    async fn a_dropped_child_takes_its_group_along() {
        let directory = tempfile::tempdir().unwrap();
        let launcher = Launcher::start().unwrap();
        let child = launcher.spawn(&shell("sleep 600 & wait"), &slot(), directory.path()).await.unwrap();
        let pid = child.pid();
        drop(child);
        for _ in 0..100 {
            // SAFETY: signal 0 asks whether the group exists.
            if unsafe { libc::kill(-pid, 0) } != 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("process group {pid} still lives");
    }
}
