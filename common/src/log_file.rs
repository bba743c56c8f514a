//! A log file of bounded size: what would make it larger begins it anew, and the one before is kept beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file that is written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
}

impl LogFile {
    /// Opens a log to write at its end, its directory made where it is missing. It has at most `limit` bytes, or one line; as much may
    /// be beside it, in a file of the same name and `.1`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = append(path)?;
        Ok(Self {
            path: path.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            limit,
        })
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        match fs::rename(&self.path, self.path.with_added_extension("1")) {
            // Whoever moved it away has what was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes.saturating_add(line.len() as u64) > self.limit {
            // A log that cannot be begun anew goes on where it is: its lines are worth more than its limit.
            let _kept = self.begin_anew();
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_at_most_its_limit_twice_and_the_newest_lines() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log/a.log");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        for number in 0..5 {
            // Also over several processes.
            let mut log = LogFile::open(&path, 20).unwrap();
            for line in 0..3 {
                log.write_all(format!("line {number}.{line}\n").as_bytes())
                    .unwrap();
            }
        }
        assert_eq!(read(&path), "line 4.2\n");
        assert_eq!(
            read(&path.with_added_extension("1")),
            "line 4.0\nline 4.1\n"
        );
        let mut log = LogFile::open(&path, 20).unwrap();
        fs::rename(&path, root.path().join("moved")).unwrap();
        log.write_all(&[b'x'; 100]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100);
        assert_eq!(fs::read_dir(root.path().join("log")).unwrap().count(), 2);
    }
}
