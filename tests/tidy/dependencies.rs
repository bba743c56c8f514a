//! What the program is made of: the essential rules of `deny.toml`, over what cargo resolves for this machine.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use toml::Table;

use super::repository::{expect_none, read};

/// What `deny.toml` says, as far as it is a test.
struct Rules {
    licences: Vec<String>,
    clarified: BTreeMap<String, String>,
    banned: Vec<String>,
}

fn strings(values: &toml::Value) -> Vec<String> {
    let values = values.as_array().unwrap().iter();
    values
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

fn rules(text: &str) -> Rules {
    let table: Table = text.parse().unwrap();
    let clarified = table["licenses"]["clarify"].as_array().unwrap().iter();
    let banned = table["bans"]["deny"].as_array().unwrap().iter();
    let word = |entry: &toml::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    Rules {
        licences: strings(&table["licenses"]["allow"]),
        clarified: clarified
            .map(|entry| (word(entry, "crate"), word(entry, "expression")))
            .collect(),
        banned: banned.map(|entry| word(entry, "crate")).collect(),
    }
}

/// Every package that cargo resolves for this machine.
fn packages() -> Vec<Value> {
    let host = Command::new(env!("CARGO")).args(["-vV"]).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host.unwrap()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "cargo metadata: {words}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let resolved: Vec<&Value> = nodes.iter().map(|node| &node["id"]).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| resolved.contains(&&package["id"]))
        .cloned()
        .collect()
}

/// Whether a licence expression (SPDX, or with `/` as manifests of old have it) can be met by the licences that are allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    let inner = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    if let Some(inner) = inner.filter(|inner| !inner.contains('(')) {
        return is_allowed(inner, allowed);
    }
    // AND binds tighter than OR; parentheses group.
    for (word, all) in [(" OR ", false), (" AND ", true)] {
        let parts = split(expression, word);
        if parts.len() > 1 {
            let mut parts = parts.into_iter();
            return if all {
                parts.all(|part| is_allowed(part, allowed))
            } else {
                parts.any(|part| is_allowed(part, allowed))
            };
        }
    }
    allowed.iter().any(|licence| licence == expression)
}

/// The parts of an expression between a word that stands outside of parentheses.
fn split<'a>(expression: &'a str, word: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0_usize, 0);
    for (place, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && place >= begin && expression[place..].starts_with(word) => {
                parts.push(&expression[begin..place]);
                begin = place + word.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[begin..]);
    parts
}

fn offenders(packages: &[Value], rules: &Rules) -> Vec<String> {
    let mut offenders = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if rules.banned.iter().any(|banned| banned == name) {
            offenders.push(format!("{name} is banned"));
        }
        // Ours have none.
        let Some(source) = package["source"].as_str() else {
            continue;
        };
        if !source.starts_with("registry+") {
            offenders.push(format!("{name} comes from {source}"));
        }
        let clarified = rules.clarified.get(name).map(String::as_str);
        let licence = package["license"].as_str().or(clarified);
        match licence {
            Some(licence) if is_allowed(licence, &rules.licences) => {}
            Some(licence) => offenders.push(format!("{name} has licence {licence}")),
            None => offenders.push(format!("{name} names no licence")),
        }
    }
    offenders
}

#[test]
fn everything_has_a_licence_that_is_allowed_and_a_source_that_is_known() {
    let rules = rules(&read("deny.toml").unwrap());
    let packages = packages();
    assert!(packages.len() > 100, "{}", packages.len());
    expect_none(offenders(&packages, &rules));
    for ours in ["aws-lc-rs", "openssl"] {
        assert!(rules.banned.iter().any(|banned| banned == ours), "{ours}");
    }
}

#[test]
fn what_is_banned_unlicensed_or_from_elsewhere_is_found() {
    let rules = Rules {
        licences: ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into(),
        clarified: BTreeMap::from([("odd".to_owned(), "ISC".to_owned())]),
        banned: vec!["openssl".to_owned()],
    };
    for (name, source, licence, count) in [
        ("good", "registry+x", Some("MIT"), 0),
        ("good", "registry+x", Some("GPL-3.0 OR MIT"), 0),
        ("good", "registry+x", Some("GPL-3.0/MIT"), 0),
        ("good", "registry+x", Some("(GPL-3.0 OR MIT) AND ISC"), 0),
        (
            "good",
            "registry+x",
            Some("Apache-2.0 WITH LLVM-exception"),
            0,
        ),
        ("odd", "registry+x", None, 0),
        ("bad", "registry+x", None, 1),
        ("bad", "registry+x", Some("GPL-3.0"), 1),
        ("bad", "registry+x", Some("MIT AND GPL-3.0"), 1),
        (
            "bad",
            "registry+x",
            Some("(GPL-3.0 OR ISC) AND (GPL-3.0)"),
            1,
        ),
        ("bad", "git+x", Some("MIT"), 1),
        ("openssl", "registry+x", Some("MIT"), 1),
    ] {
        let package = serde_json::json!({ "name": name, "source": source, "license": licence });
        let found = offenders(&[package], &rules);
        assert_eq!(found.len(), count, "{licence:?}: {found:?}");
    }
}
