//! Proof of a published model: what its files are, signed by the federation's server, whose certificate the authority signed.
//!
//! The file `model.sig` is a bundle of OpenSSF Model Signing 1.0, which its reference library reads: a DSSE envelope around an in-toto statement that lists every file of the model's directory with its BLAKE3 digest, and the chain of certificates.
//! `fedmerge.json` is one of these files, so parent, recipe, seed and the digests of the updates are signed with it.
//! Signatures are ECDSA over P-256 with SHA-256, ASN.1 DER.

mod bundle;
mod directory;

use serde::{Deserialize, Serialize};

use crate::authority::{has_signed, is_authority, is_signed_by};
use crate::digest::Digest;
use crate::hex;
use crate::identity::{Identity, PeerCertificate, sha256};
use crate::ids::FederationName;

pub use bundle::seal;
use bundle::{Envelope, open};
pub use directory::{CheckModelError, check, resources};

/// The name of the file in a model's directory.
pub const FILE: &str = "model.sig";
/// What may lie beside a model and is no part of it: the proof, one that a crash has left half written, and the memory of the server's
/// optimizer, which stays with the server and whose digest is in `fedmerge.json`.
const BESIDE: [&str; 3] = [FILE, "model.sig.part", "optimizer.safetensors"];

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const ALGORITHM: &str = "blake3";

/// A file of a model: its name within the directory, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name, with `/` between the parts of a path.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
}

/// What a proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedModel {
    /// The federation whose server signed it.
    pub federation: FederationName,
    /// The model, in the words of whoever published it: `digits/3`.
    pub name: String,
    /// Its files, by name.
    pub resources: Vec<Resource>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyProofError {
    /// It is not in the form of a bundle.
    #[error("not a bundle of OpenSSF Model Signing 1.0: {0}")]
    Form(String),
    /// No chain of certificates leads from the authority to the signer.
    #[error("the signer's certificate is not one that the federation's authority signed")]
    Chain,
    /// The signer is not the federation's server.
    #[error("the signer is not the server of a federation")]
    Signer,
    /// The signature is another's, or of other words.
    #[error("the signature is not that of the federation's server")]
    Signature,
    /// The list of files contradicts itself.
    #[error("the list of files does not have the digest that is signed")]
    Root,
}

#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: RootDigest,
}

#[derive(Serialize, Deserialize)]
struct RootDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<ResourceLine>,
}

/// How files became digests; other verifiers do the same by it.
#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ResourceLine {
    name: String,
    algorithm: String,
    digest: String,
}

/// What is to be signed of a model, as the payload of an envelope. Files are listed by name.
///
/// # Panics
/// Never: text and digests become JSON.
#[must_use]
pub fn statement(model: &str, resources: &[Resource]) -> Vec<u8> {
    let mut resources = resources.to_vec();
    resources.sort_by(|left, right| left.name.cmp(&right.name));
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            name: model.to_owned(),
            digest: RootDigest {
                sha256: root(&resources),
            },
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: Predicate {
            serialization: Serialization {
                method: "files".to_owned(),
                hash_type: ALGORITHM.to_owned(),
                allow_symlinks: false,
                ignore_paths: BESIDE.map(str::to_owned).to_vec(),
            },
            resources: resources.iter().map(ResourceLine::of).collect(),
        },
    };
    serde_json::to_vec(&statement).expect("text and digests become JSON")
}

/// SHA-256 of the files' digests, one after the other, hexadecimal.
fn root(resources: &[Resource]) -> String {
    let digests: Vec<u8> = resources
        .iter()
        .flat_map(|resource| *resource.digest.as_bytes())
        .collect();
    hex::encode(&sha256(&digests))
}

impl ResourceLine {
    fn of(resource: &Resource) -> Self {
        Self {
            name: resource.name.clone(),
            algorithm: ALGORITHM.to_owned(),
            digest: hex::encode(resource.digest.as_bytes()),
        }
    }

    fn read(self) -> Option<Resource> {
        let bytes = hex::decode_all(&self.digest).filter(|_| self.algorithm == ALGORITHM)?;
        Some(Resource {
            name: self.name,
            digest: Digest::from_bytes(bytes.try_into().ok()?),
        })
    }
}

/// What is signed of a payload: DSSE's pre-authentication encoding.
#[must_use]
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// What a bundle proves to those who trust `authority`, a certificate in DER.
///
/// # Errors
/// When it proves nothing.
pub fn verify(bundle: &[u8], authority: &[u8]) -> Result<SignedModel, VerifyProofError> {
    let Envelope {
        payload,
        signature,
        chain,
    } = open(bundle)?;
    if !leads_to(&chain, authority) {
        return Err(VerifyProofError::Chain);
    }
    let signer = PeerCertificate::parse(&chain[0]).map_err(|_| VerifyProofError::Signer)?;
    if signer.identity != Identity::Server {
        return Err(VerifyProofError::Signer);
    }
    let words = pre_authentication_encoding(&payload);
    match has_signed(&chain[0], &words, &signature) {
        Ok(true) => {}
        Ok(false) => return Err(VerifyProofError::Signature),
        Err(_) => return Err(VerifyProofError::Signer),
    }
    let (name, resources) = read_statement(&payload)?;
    Ok(SignedModel {
        federation: signer.federation,
        name,
        resources,
    })
}

/// Whether the first certificate is signed by the authority, or by the next one, which is that of an authority and leads to it.
fn leads_to(chain: &[Vec<u8>], authority: &[u8]) -> bool {
    for (position, certificate) in chain.iter().enumerate() {
        if is_signed_by(certificate, authority) {
            return true;
        }
        let issuer = chain.get(position + 1);
        // Whoever has a certificate has a key, and could sign with it: only authorities may.
        let is_issued =
            |issuer: &Vec<u8>| is_authority(issuer) && is_signed_by(certificate, issuer);
        if !issuer.is_some_and(is_issued) {
            return false;
        }
    }
    false
}

fn read_statement(payload: &[u8]) -> Result<(String, Vec<Resource>), VerifyProofError> {
    let form = |fault: &str| VerifyProofError::Form(fault.to_owned());
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| form(&error.to_string()))?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(form("it states something else"));
    }
    let [subject] = statement.subject.as_slice() else {
        return Err(form("it has not exactly one subject"));
    };
    let Predicate {
        serialization,
        resources,
    } = statement.predicate;
    if serialization.method != "files" || serialization.hash_type != ALGORITHM {
        return Err(form("its files are not digested as a federation's are"));
    }
    let resources: Option<Vec<Resource>> = resources.into_iter().map(ResourceLine::read).collect();
    let resources = resources.ok_or_else(|| form("a file's digest cannot be read"))?;
    if root(&resources) != subject.digest.sha256 {
        return Err(VerifyProofError::Root);
    }
    Ok((subject.name.clone(), resources))
}

#[cfg(test)]
mod tests;
