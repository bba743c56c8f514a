//! Words that must not occur: impure ones in the pure crates, unfinished code, paths of one machine.

use super::repository::{Source, expect_none, rust_sources, sample, sources};

/// Words that the sources of a pure crate must not contain, comments aside.
const PURE: &[(&str, &[&str])] = &[
    (
        "server/coordinator/src/",
        &[
            "tokio",
            "SystemTime",
            "Instant",
            "rand",
            "HashMap",
            "HashSet",
            "tracing",
            "std::fs",
            "std::net",
            "std::thread",
            "async fn",
        ],
    ),
    (
        "server/merge/src/",
        &[
            "tokio",
            "Path",
            "PathBuf",
            "std::fs",
            "std::net",
            "HashMap",
            "HashSet",
            "tracing",
            "fedmerge_",
            "async fn",
        ],
    ),
    (
        "common/src/",
        &["tokio", "tonic", "prost", "tracing", "async fn"],
    ),
];

/// Words that one file of a folder alone may contain, tests aside.
const AT_HOME: &[(&str, &str, &str)] = &[("server/src/", "server/src/compute.rs", "rayon")];

/// Code that must not stay, cut in two so that this file does not contain it.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimplem", "ented!"),
    concat!("#[al", "low("),
    concat!("#![al", "low("),
    concat!("#[ign", "ore"),
];

/// Beginnings of paths that exist on one machine alone, cut in two likewise.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];

/// Lines that contain one of the `words`; a word's ends must not run on into a longer word.
fn word_offenders(source: &Source, words: &[&str]) -> Vec<String> {
    let mut offenders = Vec::new();
    for (line, number) in source.text.lines().zip(1..) {
        let code = line.split("//").next().unwrap_or_default();
        for word in words.iter().filter(|word| contains_word(code, word)) {
            offenders.push(format!("{}:{number}: `{word}`", source.path));
        }
    }
    offenders
}

fn is_away(path: &str, folder: &str, home: &str) -> bool {
    path.starts_with(folder) && path != home && !path.contains("/tests")
}

fn contains_word(line: &str, word: &str) -> bool {
    let runs_on =
        |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !runs_on(before) && (word.ends_with('_') || !runs_on(after))
    })
}

fn unfinished_offenders(source: &Source) -> Vec<String> {
    let lines = source.text.lines().zip(1..);
    lines
        .filter(|(line, _)| UNFINISHED.iter().any(|word| line.contains(word)))
        .map(|(line, number)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

/// Lines with a path of one machine; `DIR/work/` is none, because something stands before it.
fn machine_offenders(source: &Source) -> Vec<String> {
    let belongs_to_a_longer_path =
        |character: char| character.is_alphanumeric() || "._-~$}>)]/".contains(character);
    let names_machine = |line: &str| {
        MACHINE_PATHS.iter().any(|path| {
            line.match_indices(path)
                .any(|(at, _)| !line[..at].ends_with(belongs_to_a_longer_path))
        })
    };
    let lines = source.text.lines().zip(1..);
    lines
        .filter(|(line, _)| names_machine(line))
        .map(|(line, number)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

#[test]
fn nothing_is_left_unfinished_silenced_or_skipped() {
    expect_none(rust_sources().iter().flat_map(unfinished_offenders));
}

#[test]
fn unfinished_silenced_and_skipped_code_is_found() {
    for word in UNFINISHED {
        assert_eq!(
            unfinished_offenders(&sample("a.rs", &format!("fine\n  {word}"))).len(),
            1,
            "{word}"
        );
    }
}

#[test]
fn the_pure_crates_are_pure() {
    let files = rust_sources();
    let offenders = PURE.iter().flat_map(|(folder, words)| {
        let files = files
            .iter()
            .filter(move |source| source.path.starts_with(folder));
        files.flat_map(move |source| word_offenders(source, words))
    });
    expect_none(offenders);
}

#[test]
fn arithmetic_meets_the_runtime_in_one_file_alone() {
    let files = rust_sources();
    let offenders = AT_HOME.iter().flat_map(|(folder, home, word)| {
        let files = files
            .iter()
            .filter(move |source| is_away(&source.path, folder, home));
        files.flat_map(move |source| word_offenders(source, &[word]))
    });
    expect_none(offenders);
}

#[test]
fn a_file_is_away_when_it_is_neither_the_home_nor_a_test() {
    for (path, expected) in [
        ("server/src/merging.rs", true),
        ("server/src/compute.rs", false),
        ("server/src/merging/tests.rs", false),
        ("server/merge/src/engine.rs", false),
    ] {
        let found = is_away(path, "server/src/", "server/src/compute.rs");
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn an_impure_word_is_found_but_not_within_another_word_or_a_comment() {
    let words = &["rand", "Path", "fedmerge_", "async fn"];
    for bad in [
        "use rand::Rng;",
        "&Path",
        "use fedmerge_common::x;",
        "pub async fn f()",
        "a::rand()",
    ] {
        assert_eq!(
            word_offenders(&sample("a.rs", bad), words).len(),
            1,
            "{bad}"
        );
    }
    for good in [
        "let random = 1;",
        "// rand is absent",
        "PathLength",
        "operand",
        "x //! Path",
    ] {
        assert_eq!(
            word_offenders(&sample("a.rs", good), words).len(),
            0,
            "{good}"
        );
    }
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    expect_none(sources().iter().flat_map(machine_offenders));
}

#[test]
fn a_path_of_one_machine_is_found() {
    for path in MACHINE_PATHS {
        for bad in [
            format!("cd {path}x"),
            format!("\"{path}x\""),
            path.to_string(),
        ] {
            assert_eq!(machine_offenders(&sample("a", &bad)).len(), 1, "{bad}");
        }
        for good in [format!("DIR{path}round-1"), format!("{{dir}}{path}round-1")] {
            assert_eq!(machine_offenders(&sample("a", &good)).len(), 0, "{good}");
        }
    }
}
