//! A site that has an authority of its own: its machines come with its certificates, and no other certificate comes in.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Ended;
use crate::harness::values::Values;

/// An authority that a site has already.
struct Site {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// First and last minute of a certificate's life, from now.
type Minutes = (i64, i64);

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Authorities are told apart by their names, as they are by their keys.
        let name = format!("authority {:?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        Self {
            certificate: params.self_signed(&key).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Gives a machine a certificate and its key: `NAME.pem` and `NAME.key`.
    fn certify(&self, directory: &Path, name: &str, host: &str, (begin, end): Minutes) {
        self.certify_as(
            directory,
            name,
            SanType::DnsName(host.try_into().unwrap()),
            (begin, end),
        );
    }

    fn certify_as(&self, directory: &Path, name: &str, san: SanType, (begin, end): Minutes) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![san];
        params.not_before = OffsetDateTime::now_utc() + Duration::minutes(begin);
        params.not_after = OffsetDateTime::now_utc() + Duration::minutes(end);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key_path = directory.join(format!("{name}.key"));
        fs::write(key_path, key.serialize_pem()).unwrap();
        let path = directory.join(format!("{name}.pem"));
        let part = path.with_extension("part");
        fs::write(&part, certificate.pem()).unwrap();
        fs::rename(part, path).unwrap();
    }
}

const DAY: Minutes = (-60, 23 * 60);

/// A federation that takes certificates of a site.
fn taking(site: &Site, plan: &Plan) -> Federation {
    let mut federation = Federation::new(plan);
    let settings = "[tls]\nclient_ca = \"site-ca.pem\"\nclient_names = [\"dns:*.wards.example\"]\n";
    fs::write(federation.path("server/server.toml"), settings).unwrap();
    fs::write(
        federation.path("server/site-ca.pem"),
        site.certificate.pem(),
    )
    .unwrap();
    federation.start_server();
    federation
}

/// What `server check-config` says of the authority.
fn authority(federation: &Federation) -> String {
    let checked = federation
        .run(&["server", "check-config", "--dir", "server"])
        .well();
    let line = checked
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("authority "));
    line.unwrap().to_owned()
}

/// The command by which a machine joins with `NAME.pem` and `NAME.key`.
fn join_command(federation: &Federation, name: &str) -> Command {
    join_command_to(federation, name, &authority(federation))
}

fn join_command_to(federation: &Federation, name: &str, authority: &str) -> Command {
    let url = format!("https://{}", federation.address);
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let join = [
        "client",
        "enrol",
        "--server",
        &url,
        "--certificate",
        &certificate,
        "--key",
        &key,
        "--dir",
        name,
        "--wait",
        "1s",
    ];
    let mut command = federation.command(&join);
    command.args(["--authority", authority]);
    command
}

fn join(federation: &Federation, name: &str) -> Ended {
    run(&mut join_command(federation, name))
}

fn clients(federation: &Federation, deed: &[&str]) -> String {
    let command = [&["server", "clients"], deed, &["--dir", "server"]].concat();
    federation.run(&command).well().stdout.clone()
}

#[test]
fn machines_of_a_site_take_part_with_the_certificates_they_have() {
    let site = Site::new();
    let plan = Plan {
        rounds: 2,
        deadline: "10m",
        ..Plan::of(2)
    };
    let mut federation = taking(&site, &plan);
    let here = federation.path("");
    for name in ["a", "b"] {
        site.certify(&here, name, &format!("{name}.wards.example"), DAY);
        let joined = join(&federation, name).well();
        assert!(
            joined
                .stdout
                .contains(&format!("enrolled as {name} in federation story"))
        );
    }
    assert!(clients(&federation, &["show", "a"]).contains("the site's CA"));
    join(&federation, "a").refused(64, &["already the directory of client a"]);

    let mut gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    let trainer = federation.trainer("b", &Values::base().plus(3.0), 1);
    federation.start_client("b", &trainer);
    gate.wait_for_knock();
    // The site's tools renew a certificate while its client works.
    site.certify(&here, "a", "a.wards.example", (-60, 47 * 60));
    federation.client("a").next_event("certificate-renewed");
    gate.open();
    federation.next_round().expect("a", "accepted", &[]);
    gate.open();
    federation.next_round().expect("b", "accepted", &[]);
    assert_eq!(Values::read(&federation.model(2)), Values::base().plus(2.0));
    for name in ["a", "b"] {
        federation.client_end(name).well();
    }
    federation.server_end().well();
    let audit = federation.run(&["server", "audit", "verify", "--dir", "server"]);
    audit.well();
}

#[test]
fn whoever_is_evicted_stays_out_whatever_certificate_the_site_gives_it() {
    let site = Site::new();
    // Rounds enough that the server does not end with the one that the client leaves.
    let plan = Plan {
        rounds: 9,
        ..Plan::of(1)
    };
    let mut federation = taking(&site, &plan);
    let here = federation.path("");
    site.certify(&here, "a", "a.wards.example", DAY);
    join(&federation, "a").well();
    let gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    gate.wait_for_knock();
    let evicted = clients(&federation, &["evict", "a", "--reason", "lost"]);
    assert!(
        evicted.contains("until `clients approve` takes that back"),
        "{evicted}"
    );
    federation
        .client_end("a")
        .refused(77, &["client-evicted", "lost"]);
    site.certify(&here, "a", "a.wards.example", DAY);
    fs::remove_dir_all(federation.path("a")).unwrap();
    join(&federation, "a").refused(77, &["client-evicted", "lost"]);
    clients(&federation, &["approve", "a"]);
    join(&federation, "a").well();
}

#[test]
fn certificates_that_are_not_good_here_are_told_why() {
    let (site, another) = (Site::new(), Site::new());
    let mut federation = taking(&site, &Plan::of(1));
    let here = federation.path("");
    let name = |text: &str| SanType::URI(text.try_into().unwrap());
    site.certify(&here, "elsewhere", "a.offices.example", DAY);
    site.certify_as(&here, "admin", name("fedmerge://story/admin/root"), DAY);
    site.certify_as(&here, "client", name("fedmerge://story/client/a"), DAY);
    for machine in ["elsewhere", "admin", "client"] {
        let words = ["not-permitted", "fit none of dns:*.wards.example"];
        join(&federation, machine).refused(77, &words);
    }
    another.certify(&here, "foreign", "a.wards.example", DAY);
    join(&federation, "foreign").refused(77, &["refused this client"]);
    site.certify(&here, "expired", "a.wards.example", (-120, -10));
    join(&federation, "expired").refused(77, &["expired at", "have the site's authority write"]);
    site.certify(&here, "early", "a.wards.example", (10, 120));
    join(&federation, "early").refused(77, &["is not valid before"]);
    // The machine's clock may be of another opinion than the server's: then the server decides.
    for (machine, offset) in [("expired", -1_500), ("early", 1_500)] {
        let mut command = join_command(&federation, machine);
        command.env(fedmerge_common::clock::OFFSET_VARIABLE, offset.to_string());
        run(&mut command).refused(77, &["refused this client"]);
    }

    site.certify(&here, "a", "a.wards.example", DAY);
    fs::rename(federation.path("a.key"), federation.path("away.key")).unwrap();
    join(&federation, "a").refused(65, &["a.key cannot be used"]);
    fs::copy(federation.path("expired.key"), federation.path("a.key")).unwrap();
    join(&federation, "a").refused(65, &["do not belong together"]);
    fs::rename(federation.path("away.key"), federation.path("a.key")).unwrap();
    let mut command = join_command_to(&federation, "a", &"0".repeat(64));
    run(&mut command).refused(77, &["not the one that was pinned"]);
    let mut command = join_command_to(&federation, "a", "0123");
    run(&mut command).refused(64, &["--authority", "check-config"]);
    assert!(!federation.path("a/client.toml").exists());
    join(&federation, "a").well();
    federation.stop_server().well();

    fs::write(federation.path("server/site-ca.pem"), "nothing").unwrap();
    let checked = federation.run(&["server", "check-config", "--dir", "server"]);
    checked.refused(78, &["site-ca.pem holds no certificate in PEM", "[tls]"]);
}

#[test]
fn a_machine_of_a_site_follows_the_federations_authority_where_it_is_rotated() {
    let site = Site::new();
    let mut federation = taking(&site, &Plan::of(1));
    site.certify(&federation.path(""), "a", "a.wards.example", DAY);
    join(&federation, "a").well();
    federation.stop_server().well();
    federation
        .run(&["server", "access", "rotate", "--dir", "server"])
        .well();
    federation.start_server();
    let mut gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    federation.client("a").next_event("authority-renewed");
    let read = |file: &str| fs::read_to_string(federation.path(file)).unwrap();
    let known = read("a/identity/ca.pem");
    let der = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('-'))
            .collect::<String>()
    };
    assert_eq!(der(&known), der(&read("server/identity/ca.pem")));
    gate.wait_for_knock();
    gate.open();
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
}
