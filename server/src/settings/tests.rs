//! Settings good and bad: the defaults, every key, and each limit that is refused.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;
use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Settings, ReadSettingsError> {
    Settings::of(&Document::new(Path::new("server.toml"), text))
}

fn refusal(text: &str) -> String {
    let failure = Failure::from(parse(text).unwrap_err());
    assert_eq!(failure.exit, ExitCode::BadConfiguration);
    failure.to_string()
}

#[test]
fn an_empty_file_has_the_defaults_and_they_are_possible() {
    assert_eq!(parse("").unwrap(), Settings::default());
}

#[test]
fn every_key_can_be_set() {
    let settings = parse(
        "listen = \"[::1]:0\"\n[admin]\nlisten = \"[::1]:1\"\n\
         [tls]\nclient_ca = \"a.pem\"\nclient_crl = \"a.crl\"\nclient_names = [\"dns:*.a\"]\nclient_labels = { site = \"n\" }\n\
         require_approval = true\n[limits]\nclients = 1\nconnections = 2\nstrangers = 3\ncalls = 11\nhandshakes = 14\nconnections_of_client = 15\nstreams = 16\n\
         message_bytes = \"2MiB\"\ncall_header_bytes = \"8KiB\"\nheader_bytes = \"1MiB\"\ntensors = 17\nname_bytes = 18\nledger_bytes = \"2MiB\"\n\
         log_bytes = \"1MiB\"\nrejections = 12\nstaged_bytes = \"4KiB\"\nuploads = 4\ndownloads = 6\n\
         examples = 5\nmagnitude = 6\nlength = 13\nreplaced = 0.25\n[enrolment]\ncertificate_life = \"7d\"\nabsence = \"0s\"\nclock_skew = \"0s\"\n[merge]\n\
         memory = 8\nthreads = 9\nkeep_updates = 10\n",
    )
    .unwrap();
    let expected = Settings {
        listen: "[::1]:0".to_owned(),
        admin: AdminSettings {
            listen: "[::1]:1".to_owned(),
        },
        tls: TlsSettings {
            client_ca: Some("a.pem".into()),
            client_crl: Some("a.crl".into()),
            client_names: vec!["dns:*.a".parse().unwrap()],
            client_labels: Labels::from([("site".to_owned(), "n".to_owned())]),
            require_approval: true,
        },
        limits: Limits {
            clients: 1,
            connections: 2,
            strangers: 3,
            calls: 11,
            handshakes: 14,
            connections_of_client: 15,
            streams: 16,
            message_bytes: ByteSize::from_mebibytes(2),
            call_header_bytes: ByteSize::new(8192),
            header_bytes: ByteSize::from_mebibytes(1),
            tensors: 17,
            name_bytes: 18,
            ledger_bytes: ByteSize::from_mebibytes(2),
            log_bytes: ByteSize::from_mebibytes(1),
            rejections: 12,
            staged_bytes: ByteSize::new(4096),
            uploads: 4,
            downloads: 6,
            examples: 5,
            magnitude: 6.0,
            length: 13.0,
            replaced: 0.25,
        },
        enrolment: EnrolmentSettings {
            certificate_life: Millis::from_secs(7 * 24 * 60 * 60),
            absence: Millis::ZERO,
            clock_skew: Millis::ZERO,
        },
        merge: MergeSettings {
            memory: ByteSize::new(8),
            threads: 9,
            keep_updates: 10,
        },
    };
    assert_eq!(settings, expected);
}

#[test]
fn a_number_out_of_range_is_refused_with_its_key() {
    for (text, expected) in [
        (
            "[limits]\nclients = 0",
            "error: server.toml: `limits.clients` is 0, it must be from 1 to 1000000",
        ),
        ("[limits]\nconnections = 0", "`limits.connections` is 0"),
        (
            "[limits]\nconnections = 1000001",
            "`limits.connections` is 1000001",
        ),
        ("[limits]\nstrangers = 0", "`limits.strangers` is 0"),
        ("[limits]\ncalls = 0", "`limits.calls` is 0"),
        ("[limits]\nrejections = 0", "`limits.rejections` is 0"),
        ("[limits]\nuploads = 0", "`limits.uploads` is 0"),
        ("[limits]\ndownloads = 0", "`limits.downloads` is 0"),
        (
            "[limits]\nstaged_bytes = 0",
            "`limits.staged_bytes` is 0 B, it must be at least 1 byte",
        ),
        ("[limits]\nexamples = 0", "`limits.examples` is 0"),
        ("[limits]\nmagnitude = 0.0", "`limits.magnitude` is 0,"),
        ("[limits]\nmagnitude = inf", "`limits.magnitude` is inf"),
        ("[limits]\nmagnitude = nan", "`limits.magnitude` is NaN"),
        ("[limits]\nmagnitude = 1e300", "`limits.magnitude` is inf"),
        ("[limits]\nlength = 0.5", "`limits.length` is 0.5"),
        ("[limits]\nlength = nan", "`limits.length` is NaN"),
        ("[limits]\nreplaced = 1.5", "`limits.replaced` is 1.5"),
        ("[limits]\nreplaced = -1", "`limits.replaced` is -1"),
        (
            "[enrolment]\ncertificate_life = \"0s\"",
            "`enrolment.certificate_life` is 0s, it must be from 1s to 3650d",
        ),
        (
            "[enrolment]\ncertificate_life = \"3651d\"",
            "`enrolment.certificate_life` is",
        ),
        ("[enrolment]\nabsence = \"3651d\"", "`enrolment.absence` is"),
        (
            "[enrolment]\nclock_skew = \"25h\"",
            "`enrolment.clock_skew` is 25h",
        ),
        ("[merge]\nmemory = \"0\"", "`merge.memory` is 0 B"),
        ("[merge]\nthreads = 1025", "`merge.threads` is 1025"),
        (
            "[admin]\nlisten = \"here\"",
            "`admin.listen` is \"here\", it must be HOST:PORT",
        ),
        (
            "listen = \"7600\"",
            "`listen` is \"7600\", it must be HOST:PORT, such as \"0.0.0.0:7600\"",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for text in [
        "0.0.0.0:7600",
        "localhost:0",
        "[::]:7600",
        "node-1.lan:65535",
    ] {
        assert!(is_address(text), "{text}");
    }
    for text in [
        "",
        ":7600",
        "localhost",
        "localhost:",
        "localhost:65536",
        "::1:7600",
        "[]:7600",
        "https://a:1",
        "a b:1",
    ] {
        assert!(!is_address(text), "{text}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_its_neighbour() {
    assert_eq!(
        refusal("[limits]\nclients = 5\nconections = 3"),
        "error: server.toml:3: unknown key `conections` in [limits]\nhint: did you mean `connections`?"
    );
    assert_eq!(
        refusal("[limit]\nclients = 5"),
        "error: server.toml:1: unknown key `limit` at the top\nhint: did you mean `limits`?"
    );
    assert_eq!(
        refusal("threads = 5"),
        "error: server.toml:1: unknown key `threads` at the top\nhint: `threads` belongs in [merge]"
    );
}

#[test]
fn a_directory_without_settings_is_told_how_to_make_them() {
    let root = tempfile::tempdir().unwrap();
    let directory = ServerDirectory::new(root.path());
    let failure = Failure::from(Settings::read(&directory).unwrap_err());
    assert!(failure.message.ends_with("server.toml does not exist"));
    assert!(failure.hint.unwrap().contains("fedmerge server init"));
    fs::write(directory.settings(), "listen = \"localhost:1\"").unwrap();
    assert_eq!(Settings::read(&directory).unwrap().listen, "localhost:1");
}

#[test]
fn the_deployed_example_is_possible() {
    let settings = parse(include_str!("../../../deploy/server.toml")).unwrap();
    assert_eq!(settings.limits.clients, 100);
}

#[test]
fn an_authority_of_the_site_comes_with_names_and_its_settings_with_it() {
    for (table, words) in [
        ("client_ca = \"a.pem\"", "`tls.client_names` is empty"),
        ("client_names = [\"dns:*.a\"]", "`tls.client_ca` is missing"),
        ("require_approval = true", "`tls.client_ca` is missing"),
        (
            "client_ca = \"a.pem\"\nclient_names = [\"*.a\"]",
            "`*.a` is no pattern of names",
        ),
        (
            "client_ca = \"a.pem\"\nclient_names = [\"dns:*.a\"]\nclient_labels = { site = \"a b\" }",
            "`tls.client_labels` is site = \"a b\"",
        ),
        ("client_cas = \"a.pem\"", "did you mean `client_ca`?"),
    ] {
        let refusal = refusal(&format!("[tls]\n{table}\n"));
        assert!(refusal.contains(words), "{refusal}");
    }
}
