//! What a server signed is believed, and nothing else, down to the byte.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
    SigningKey,
};
use tempfile::TempDir;

use super::*;

struct Authority {
    key: KeyPair,
    params: CertificateParams,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { key, params, der }
    }

    fn certify(&self, uri: &str, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().to_vec()
    }

    /// The certificate of another authority's key by this one.
    fn succeed(&self, next: &Self) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = next.params.signed_by(&next.key, &issuer);
        certificate.unwrap().der().to_vec()
    }
}

fn model() -> TempDir {
    let model = TempDir::new().unwrap();
    fs::write(model.path().join("model.safetensors"), b"tensors").unwrap();
    fs::write(model.path().join("fedmerge.json"), b"{\"seed\":7}").unwrap();
    fs::write(model.path().join("config.json"), b"{}").unwrap();
    model
}

fn signed(model: &Path, authority: &Authority, uri: &str, more: &[&[u8]]) -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = authority.certify(uri, &key);
    let payload = statement("digits/3", &resources(model, &[]).unwrap());
    let signature = key.sign(&pre_authentication_encoding(&payload)).unwrap();
    let chain = [&[certificate.as_slice()], more].concat();
    seal(&payload, &signature, &chain)
}

const SERVER: &str = "fedmerge://digits/server";

#[test]
fn a_model_that_the_server_signed_is_what_was_signed() {
    let (model, authority) = (model(), Authority::new());
    let proof = signed(model.path(), &authority, SERVER, &[]);
    fs::write(model.path().join(FILE), proof).unwrap();
    let found = check(model.path(), &authority.der).unwrap();
    assert_eq!(found.federation.as_str(), "digits");
    assert_eq!(found.name, "digits/3");
    let names: Vec<&str> = found
        .resources
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(names, ["config.json", "fedmerge.json", "model.safetensors"]);
}

#[test]
fn a_model_that_was_changed_lost_a_file_or_got_one_is_told_by_the_file() {
    let (model, authority) = (model(), Authority::new());
    let proof = signed(model.path(), &authority, SERVER, &[]);
    let unsigned = check(model.path(), &authority.der).unwrap_err();
    assert!(matches!(unsigned, CheckModelError::Unsigned { .. }));
    fs::write(model.path().join(FILE), proof).unwrap();
    let refusal = || check(model.path(), &authority.der).unwrap_err().to_string();

    let manifest = model.path().join("fedmerge.json");
    let honest = fs::read(&manifest).unwrap();
    for position in 0..honest.len() {
        let mut changed = honest.clone();
        changed[position] ^= 1;
        fs::write(&manifest, changed).unwrap();
        assert!(refusal().starts_with("`fedmerge.json` has the digest"));
    }
    fs::remove_file(&manifest).unwrap();
    assert_eq!(refusal(), "`fedmerge.json` was signed and is missing");
    fs::write(&manifest, honest).unwrap();
    fs::write(model.path().join("pytorch_model.bin"), b"pickle").unwrap();
    assert_eq!(refusal(), "`pytorch_model.bin` is there and was not signed");
    fs::remove_file(model.path().join("pytorch_model.bin")).unwrap();
    // What a crash leaves of a proof, and what only the server remembers, are no part of the model.
    for beside in ["model.sig.part", "optimizer.safetensors"] {
        fs::write(model.path().join(beside), b"half").unwrap();
    }
    check(model.path(), &authority.der).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", model.path().join("link")).unwrap();
    assert!(refusal().contains("cannot be read"));
}

#[test]
fn no_byte_of_a_proof_can_be_changed_to_prove_something_else() {
    let (model, authority) = (model(), Authority::new());
    let proof = signed(model.path(), &authority, SERVER, &[]);
    let honest = verify(&proof, &authority.der).unwrap();
    for position in 0..proof.len() {
        for bit in [1, 32] {
            let mut changed = proof.clone();
            changed[position] ^= bit;
            // What nobody reads may be changed; what it proves stays.
            if let Ok(found) = verify(&changed, &authority.der) {
                assert_eq!(found, honest, "byte {position}");
            }
        }
        assert!(verify(&proof[..position], &authority.der).is_err());
    }
}

#[test]
fn only_the_federation_s_server_signs_models() {
    let (model, authority) = (model(), Authority::new());
    for uri in [
        "fedmerge://digits/client/ward-3",
        "fedmerge://digits/admin/root",
    ] {
        let proof = signed(model.path(), &authority, uri, &[]);
        let refused = Err(VerifyProofError::Signer);
        assert_eq!(verify(&proof, &authority.der), refused, "{uri}");
    }
    let proof = signed(model.path(), &authority, SERVER, &[]);
    let another = Authority::new();
    assert_eq!(verify(&proof, &another.der), Err(VerifyProofError::Chain));
    assert_eq!(verify(&proof, b""), Err(VerifyProofError::Chain));
}

#[test]
fn a_client_s_key_signs_no_certificate_of_a_server() {
    let (model, authority) = (model(), Authority::new());
    // A client makes itself an authority with the key that it has a certificate for.
    let client = Authority::new();
    let certificate = authority.certify("fedmerge://digits/client/ward-3", &client.key);
    let proof = signed(model.path(), &client, SERVER, &[&certificate]);
    assert_eq!(verify(&proof, &authority.der), Err(VerifyProofError::Chain));
}

#[test]
fn whoever_trusts_the_authority_before_follows_its_successor() {
    let (model, old, new) = (model(), Authority::new(), Authority::new());
    let successor = old.succeed(&new);
    let proof = signed(model.path(), &new, SERVER, &[&successor]);
    assert_eq!(verify(&proof, &old.der).unwrap().name, "digits/3");
    assert_eq!(verify(&proof, &new.der).unwrap().name, "digits/3");
    let without = signed(model.path(), &new, SERVER, &[]);
    assert_eq!(verify(&without, &old.der), Err(VerifyProofError::Chain));
    let unrelated = Authority::new();
    let forged = signed(model.path(), &unrelated, SERVER, &[&successor]);
    assert_eq!(verify(&forged, &old.der), Err(VerifyProofError::Chain));
}

#[test]
fn a_list_that_does_not_have_the_signed_digest_is_refused() {
    let (model, authority) = (model(), Authority::new());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = authority.certify(SERVER, &key);
    let payload = statement("digits/3", &resources(model.path(), &[]).unwrap());
    let text = String::from_utf8(payload).unwrap();
    for (from, to, refusal) in [
        ("config.json", "konfig.json", None),
        (
            "\"sha256\":\"",
            "\"sha256\":\"0",
            Some(VerifyProofError::Root),
        ),
    ] {
        let payload = text.replace(from, to).into_bytes();
        let signature = key.sign(&pre_authentication_encoding(&payload)).unwrap();
        let proof = seal(&payload, &signature, &[&certificate]);
        assert_eq!(verify(&proof, &authority.der).err(), refusal, "{from}");
    }
}
