//! How many files and connections this process may have open: as many as the operating system lets it.
//!
//! Each client has a connection, and a merge has a file open for each update. The usual limit of 1024 would end a round of a thousand
//! clients, though most systems let a process raise it by itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the highest that is allowed. Where that fails the limit stays, and the log says so.
pub fn allow_all() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let highest = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, highest) {
        Ok(()) => tracing::debug!(?current, ?maximum, "limit of open files raised"),
        Err(error) => tracing::warn!(?current, %error, "limit of open files not raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_that_is_allowed() {
        allow_all();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
