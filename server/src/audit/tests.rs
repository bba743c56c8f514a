//! Logs that are whole, and every way in which one line is not.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use super::*;

fn log(lines: u64) -> Vec<String> {
    let mut head = AuditHead::EMPTY;
    (1..=lines)
        .map(|number| {
            let client = format!("ward-{number}").parse().unwrap();
            let reason = "lost".to_owned();
            let event = AuditEvent::ClientEvicted { client, reason };
            let text = head.next(format!("2026-01-0{number}T00:00:00Z"), event);
            head = head.follow(&text).unwrap();
            text
        })
        .collect()
}

fn verify(lines: &[String]) -> Result<AuditHead, AuditFault> {
    let mut lines = lines.iter();
    lines.try_fold(AuditHead::EMPTY, |head, line| head.follow(line))
}

#[test]
fn a_log_that_was_written_is_whole() {
    let lines = log(5);
    let head = verify(&lines).unwrap();
    assert_eq!(head.lines, 5);
    assert_eq!(head.digest, Some(Digest::of(lines[4].as_bytes())));
    assert_eq!(verify(&[]), Ok(AuditHead::EMPTY));
}

#[test]
fn a_line_that_was_removed_put_in_or_moved_is_found_by_its_number() {
    let lines = log(5);
    for removed in 0..4 {
        let mut fewer = lines.clone();
        fewer.remove(removed);
        let line = removed as u64 + 1;
        let found = line + 1;
        assert_eq!(verify(&fewer), Err(AuditFault::Number { line, found }));
    }
    let mut moved = lines.clone();
    moved.swap(1, 2);
    assert_eq!(
        verify(&moved),
        Err(AuditFault::Number { line: 2, found: 3 })
    );
    let mut twice = lines;
    twice.insert(2, twice[1].clone());
    assert_eq!(
        verify(&twice),
        Err(AuditFault::Number { line: 3, found: 2 })
    );
}

#[test]
fn a_line_of_which_any_byte_was_changed_or_cut_off_is_found() {
    let lines = log(3);
    for place in 0..lines[1].len() {
        let mut changed = lines.clone();
        let mut bytes = changed[1].clone().into_bytes();
        bytes[place] ^= 1;
        changed[1] = String::from_utf8(bytes).unwrap();
        let fault = verify(&changed).unwrap_err();
        let is_seen = matches!(
            fault,
            AuditFault::Unreadable { line: 2 }
                | AuditFault::Number { line: 2, .. }
                | AuditFault::Chain { line: 2 | 3 }
        );
        assert!(is_seen, "{place}: {fault}");
        let mut cut = lines.clone();
        cut[1].truncate(place);
        assert_eq!(verify(&cut), Err(AuditFault::Unreadable { line: 2 }));
    }
}
