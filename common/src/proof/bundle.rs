//! The bundle's outer form: Sigstore's JSON around an envelope and a chain of certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{PAYLOAD_TYPE, VerifyProofError};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Longest chain that is followed: a server, its authority, and the one before that.
const LONGEST_CHAIN: usize = 4;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: DsseEnvelope,
}

#[derive(Serialize, Deserialize)]
struct Material {
    #[serde(rename = "x509CertificateChain")]
    chain: Chain,
    /// Nobody's log has it: a federation works offline.
    #[serde(rename = "tlogEntries", default)]
    log_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Chain {
    certificates: Vec<RawCertificate>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

/// What a bundle holds, decoded.
pub(super) struct Envelope {
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The signer's certificate first; at least one.
    pub(super) chain: Vec<Vec<u8>>,
}

/// The text of a bundle: a signed payload, and the chain of certificates (DER), the signer's first.
///
/// # Panics
/// Never: text becomes JSON.
#[must_use]
pub fn seal(payload: &[u8], signature: &[u8], chain: &[&[u8]]) -> Vec<u8> {
    let certificates = chain.iter().map(|der| RawCertificate {
        raw_bytes: STANDARD.encode(der),
    });
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material {
            chain: Chain {
                certificates: certificates.collect(),
            },
            log_entries: Vec::new(),
        },
        dsse_envelope: DsseEnvelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature {
                sig: STANDARD.encode(signature),
                keyid: String::new(),
            }],
        },
    };
    serde_json::to_vec(&bundle).expect("text becomes JSON")
}

/// Reads the outer form; nothing is believed yet.
pub(super) fn open(bundle: &[u8]) -> Result<Envelope, VerifyProofError> {
    let form = |fault: &str| VerifyProofError::Form(fault.to_owned());
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|error| form(&error.to_string()))?;
    if bundle.media_type != MEDIA_TYPE || bundle.dsse_envelope.payload_type != PAYLOAD_TYPE {
        return Err(form("it is of another type"));
    }
    let decode = |text: &str| {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|_| form("it holds something that is no Base64"))
    };
    let [signature] = bundle.dsse_envelope.signatures.as_slice() else {
        return Err(form("it has not exactly one signature"));
    };
    let certificates = bundle.verification_material.chain.certificates;
    if !(1..=LONGEST_CHAIN).contains(&certificates.len()) {
        return Err(form("its chain has no certificate, or too many"));
    }
    let chain = certificates.iter();
    Ok(Envelope {
        payload: decode(&bundle.dsse_envelope.payload)?,
        signature: decode(&signature.sig)?,
        chain: chain
            .map(|certificate| decode(&certificate.raw_bytes))
            .collect::<Result<_, _>>()?,
    })
}
