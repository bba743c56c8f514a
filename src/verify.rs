//! `fedmerge verify`: whether a model's directory is what the server of a federation signed.
//!
//! It needs the directory and the authority's certificate, and neither a server nor a network.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::proof::{self, CheckModelError, VerifyProofError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What `verify` takes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fedmerge verify ward-model --authority hub/identity/ca.pem
  fedmerge verify ward-model --authority site/identity/ca.pem --format json")]
pub(crate) struct VerifyArguments {
    /// A published model: the directory with model.safetensors, fedmerge.json and model.sig
    #[arg(value_name = "MODEL_DIR")]
    model: PathBuf,

    /// The certificate of the federation's authority: identity/ca.pem of its server, or of a client
    #[arg(long, value_name = "PEM")]
    authority: PathBuf,
}

/// Checks every file of a model against its proof.
///
/// # Errors
/// When the certificate cannot be read, or the directory is not what was signed.
pub(crate) fn run(arguments: &VerifyArguments, output: &Output) -> Result<(), Failure> {
    let authority = CertificateDer::from_pem_file(&arguments.authority).map_err(|error| {
        let message = format!("{} is no certificate", arguments.authority.display());
        Failure::new(ExitCode::BadData, message)
            .with_source(&error)
            .with_hint("the authority's is identity/ca.pem in the directory of a server or client")
    })?;
    let model = &arguments.model;
    let signed = proof::check(model, &authority).map_err(|error| unproven(model, &error))?;
    output.line(format_args!(
        "{} is {}, as the server of {} signed it",
        model.display(),
        signed.name,
        signed.federation
    ));
    for file in &signed.resources {
        output.line(format_args!("  {}  {}", file.digest, file.name));
    }
    let files = signed.resources.iter();
    let files = files.map(|file| serde_json::json!({ "name": file.name, "digest": file.digest }));
    output.json(&serde_json::json!({
        "model": signed.name,
        "federation": signed.federation,
        "files": files.collect::<Vec<_>>(),
    }));
    Ok(())
}

fn unproven(model: &std::path::Path, error: &CheckModelError) -> Failure {
    let message = format!("{} is not a model that was signed", model.display());
    let exit = if let CheckModelError::Read { .. } = error {
        ExitCode::Unavailable
    } else {
        ExitCode::BadData
    };
    let failure = Failure::new(exit, message).with_source(error);
    match error {
        CheckModelError::Proof {
            source: VerifyProofError::Chain,
            ..
        } => failure
            .with_hint("after a rotation, models from before it are proven by identity/old-ca.pem"),
        CheckModelError::Unsigned { .. } => failure
            .with_hint("get it with `fedmerge server models export`, which copies the proof too"),
        CheckModelError::Changed { .. }
        | CheckModelError::Missing { .. }
        | CheckModelError::Extra { .. } => {
            failure.with_hint("get it again from where it was published")
        }
        CheckModelError::Read { .. } | CheckModelError::Proof { .. } => failure,
    }
}
