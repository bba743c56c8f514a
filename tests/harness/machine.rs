//! The machine around a story: conditions outside of any process, small disks, and what is still running.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::process::LIMIT;

/// Time between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits for a condition that nothing announces: a file, the end of somebody else's process.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited {LIMIT:?} in vain for {what}"
        );
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// Says that a story cannot be told on this machine; seen whether the test runner captures output or not.
pub(crate) fn skipped(why: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// Numbers of the processes whose environment contains `mark`, apart from those that have ended.
pub(crate) fn processes_with(mark: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &u32| {
            // One that ends meanwhile, or is somebody else's, has no environment to read.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

/// A file system of a few mebibytes at a directory, gone when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts it; says so and answers nothing where that is not allowed.
    pub(crate) fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            skipped("a small disk cannot be mounted here (not root)");
            return None;
        }
        Some(Self { at: at.to_owned() })
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let grown = Command::new("mount")
            .args(["-o", &size])
            .arg(&self.at)
            .status();
        assert!(
            grown.unwrap().success(),
            "{} cannot grow",
            self.at.display()
        );
    }
}

/// A file that cannot be written, also by root, until dropped.
#[derive(Debug)]
pub(crate) struct Sealed {
    at: PathBuf,
}

impl Sealed {
    /// Seals it; says so and answers nothing where that is not allowed.
    pub(crate) fn seal(at: &Path) -> Option<Self> {
        let mount = |options: &[&str]| {
            let mounted = Command::new("mount").args(options).arg(at).output();
            mounted.is_ok_and(|mounted| mounted.status.success())
        };
        let path = at.to_str().unwrap();
        if !mount(&["--bind", path]) {
            skipped("a file cannot be sealed here (not root)");
            return None;
        }
        let sealed = Self { at: at.to_owned() };
        assert!(mount(&["-o", "remount,ro,bind"]), "{path} stays writable");
        Some(sealed)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because processes that are about to end may still use it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn a_process_is_found_by_its_environment_until_it_ends() {
    use super::process::Process;

    let dir = tempfile::tempdir().unwrap();
    let mark = format!("FEDMERGE_TEST_MARK={}", dir.path().display());
    let (name, value) = mark.split_once('=').unwrap();
    let mut shell = Command::new("sh");
    let process = Process::start(
        "sh",
        shell
            .args(["-c", "cat /dev/zero > /dev/null & wait"])
            .env(name, value),
    );
    wait_until("the shell and its child", || {
        processes_with(&mark).len() == 2
    });
    drop(process);
    wait_until("the end of both", || processes_with(&mark).is_empty());
}

#[test]
fn a_small_disk_is_full_until_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), 1) else {
        return;
    };
    let file = dir.path().join("disk/file");
    let content = vec![0; 2 << 20];
    assert_eq!(
        fs::write(&file, &content).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    disk.grow(4);
    fs::write(&file, &content).unwrap();
}
