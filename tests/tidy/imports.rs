//! Who may import whom: each crate's manifest against the house's table.
//!
//! Tests and build scripts may use any tool, but none of our crates that their crate may not use.

use std::collections::BTreeSet;

use toml::Table;

use super::repository::{expect_none, read};

/// Everything of ours.
const OURS: &[&str] = &[
    "fedmerge",
    "fedmerge-common",
    "fedmerge-proto",
    "fedmerge-server",
    "fedmerge-coordinator",
    "fedmerge-merge",
    "fedmerge-client",
];

/// What one crate may depend on.
struct Imports {
    manifest: &'static str,
    /// Ours, in any section.
    ours: &'static [&'static str],
    /// Everything else that its code may use; none where the choice is free.
    others: Option<&'static [&'static str]>,
}

/// Who may import whom.
const HOUSE: &[Imports] = &[
    Imports {
        manifest: "common/Cargo.toml",
        ours: &[],
        others: Some(&[
            "base64",
            "blake3",
            "bytemuck",
            "bytes",
            "bytesize",
            "half",
            "jiff",
            "ring",
            "rustls",
            "rustls-pki-types",
            "rustix",
            "safetensors",
            "serde",
            "serde_json",
            "thiserror",
            "x509-parser",
            "zstd",
        ]),
    },
    Imports {
        manifest: "proto/Cargo.toml",
        ours: &["fedmerge-common"],
        others: Some(&["bytes", "prost", "thiserror", "tonic", "tonic-prost"]),
    },
    Imports {
        manifest: "server/coordinator/Cargo.toml",
        ours: &["fedmerge-common"],
        others: Some(&["serde", "thiserror"]),
    },
    Imports {
        manifest: "server/merge/Cargo.toml",
        ours: &[],
        others: Some(&[
            "bytemuck",
            "half",
            "ndarray",
            "pulp",
            "rayon",
            "safe_arch",
            "thiserror",
        ]),
    },
    Imports {
        manifest: "server/Cargo.toml",
        ours: &[
            "fedmerge-common",
            "fedmerge-proto",
            "fedmerge-coordinator",
            "fedmerge-merge",
        ],
        others: None,
    },
    Imports {
        manifest: "client/Cargo.toml",
        ours: &["fedmerge-common", "fedmerge-proto"],
        others: None,
    },
];

/// Crates that need a C toolchain's help or a system library.
const UNWANTED_CRATES: &[&str] = &["aws-lc", "openssl", "native-tls"];

fn imports_offenders(rule: &Imports, manifest: &str) -> Vec<String> {
    let table: Table = manifest.parse().unwrap();
    let mut offenders = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for name in dependencies(&table, section) {
            let ours = OURS.contains(&name.as_str());
            let free = section != "dependencies";
            let allowed = rule.ours.contains(&name.as_str())
                || (!ours
                    && (free
                        || rule
                            .others
                            .is_none_or(|others| others.contains(&name.as_str()))));
            if !allowed {
                offenders.push(format!("{}: [{section}] {name}", rule.manifest));
            }
        }
    }
    offenders
}

/// Names of the crates in a section of a manifest, also where they are renamed or for one platform only.
fn dependencies(manifest: &Table, section: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, entry) in manifest
        .get(section)
        .and_then(|entry| entry.as_table())
        .into_iter()
        .flatten()
    {
        let renamed = entry.get("package").and_then(|package| package.as_str());
        names.insert(renamed.unwrap_or(name).to_owned());
    }
    let targets = manifest
        .get("target")
        .and_then(|targets| targets.as_table());
    for platform in targets.into_iter().flat_map(|targets| targets.values()) {
        if let Some(platform) = platform.as_table() {
            names.extend(dependencies(platform, section));
        }
    }
    names
}

fn lock_offenders(lock: &str) -> Vec<String> {
    let lock: Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let names = packages
        .iter()
        .filter_map(|package| package["name"].as_str());
    names
        .filter(|name| {
            UNWANTED_CRATES
                .iter()
                .any(|unwanted| name.starts_with(unwanted))
        })
        .map(|name| format!("Cargo.lock: {name}"))
        .collect()
}

#[test]
fn each_crate_imports_only_what_the_house_allows() {
    let offenders = HOUSE
        .iter()
        .map(|rule| imports_offenders(rule, &read(rule.manifest).unwrap()));
    expect_none(offenders.flatten());
}

#[test]
fn a_forbidden_import_is_found_in_every_section_and_under_another_name() {
    let coordinator = &HOUSE[2];
    let good = "[dependencies]\nserde = '1'\nfedmerge-common = { path = '' }\n[dev-dependencies]\nproptest = '1'";
    assert_eq!(imports_offenders(coordinator, good).len(), 0);
    for bad in [
        "[dependencies]\ntokio = '1'",
        "[dependencies]\ncalm = { package = 'tokio', version = '1' }",
        "[target.'cfg(unix)'.dependencies]\ntokio = '1'",
        "[dependencies]\nfedmerge-merge = { path = '' }",
        "[dev-dependencies]\nfedmerge-server = { path = '' }",
        "[build-dependencies]\nfedmerge-proto = { path = '' }",
    ] {
        assert_eq!(imports_offenders(coordinator, bad).len(), 1, "{bad}");
    }
    let client = &HOUSE[5];
    assert_eq!(
        imports_offenders(client, "[dependencies]\nburn = '1'").len(),
        0
    );
    assert_eq!(
        imports_offenders(client, "[dependencies]\nfedmerge-server = '1'").len(),
        1
    );
}

#[test]
fn no_dependency_needs_cmake_or_a_system_library() {
    expect_none(lock_offenders(&read("Cargo.lock").unwrap()));
}

#[test]
fn an_unwanted_dependency_is_found() {
    let lock = "[[package]]\nname = 'ring'\n[[package]]\nname = 'aws-lc-sys'\n[[package]]\nname = 'openssl-sys'";
    assert_eq!(
        lock_offenders(lock),
        ["Cargo.lock: aws-lc-sys", "Cargo.lock: openssl-sys"]
    );
}
