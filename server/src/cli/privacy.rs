//! `fedmerge privacy`: what noise costs, or how much of it a budget needs, before a plan is written.

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;

use crate::privacy::accountant::{gaussian_epsilon, gaussian_sigma, rdp_epsilon, rdp_sigma};

/// What `privacy` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("given").required(true), after_help = EXAMPLES)]
pub struct PrivacyArguments {
    /// Standard deviation of the noise over what one client can change: how much ε does it cost?
    #[arg(long, value_name = "Z", group = "given")]
    pub noise: Option<f64>,
    /// The budget: how much noise does it need?
    #[arg(long, value_name = "EPSILON", group = "given")]
    pub epsilon: Option<f64>,
    /// How many merges are released
    #[arg(long, value_name = "T", default_value_t = 1)]
    pub rounds: u32,
    /// The probability with which the promise may be broken
    #[arg(long, value_name = "DELTA", default_value_t = 1e-5)]
    pub delta: f64,
    /// The probability with which each client takes part in a round, in secret and by chance alone
    #[arg(long, value_name = "Q", default_value_t = 1.0)]
    pub sampling: f64,
}

const EXAMPLES: &str = "\
Examples:
  fedmerge privacy --epsilon 8 --rounds 50
  fedmerge privacy --noise 4.25 --rounds 50
  fedmerge privacy --noise 1.1 --rounds 1000 --sampling 0.01 --format json

Without sampling this is exact (analytic Gaussian mechanism); with it, by Renyi differential
privacy. A federation's plan claims no sampling: who takes part in its rounds is no secret.";

/// Tells ε or noise.
///
/// # Errors
/// When a number makes no sense.
pub(super) fn run(arguments: &PrivacyArguments, output: &Output) -> Result<(), Failure> {
    let PrivacyArguments {
        noise,
        epsilon,
        rounds,
        delta,
        sampling,
    } = *arguments;
    let positive = |value: f64| value.is_finite() && value > 0.0;
    for (flag, holds, expected) in [
        ("--noise", noise.is_none_or(positive), "above 0"),
        ("--epsilon", epsilon.is_none_or(positive), "above 0"),
        ("--rounds", rounds > 0, "at least 1"),
        ("--delta", delta > 0.0 && delta < 1.0, "between 0 and 1"),
        (
            "--sampling",
            sampling > 0.0 && sampling <= 1.0,
            "above 0 and at most 1",
        ),
    ] {
        if !holds {
            let message = format!("{flag} must be {expected}");
            return Err(Failure::new(ExitCode::Usage, message));
        }
    }
    let releases = f64::from(rounds);
    let is_exact = sampling >= 1.0;
    let (noise, epsilon) = match (noise, epsilon) {
        (Some(noise), _) if is_exact => (noise, gaussian_epsilon(noise, releases, delta)),
        (Some(noise), _) => (noise, rdp_epsilon(sampling, noise, releases, delta)),
        (None, Some(epsilon)) if is_exact => {
            (gaussian_sigma(epsilon, delta) * releases.sqrt(), epsilon)
        }
        (None, epsilon) => {
            let epsilon = epsilon.unwrap_or_default();
            (rdp_sigma(epsilon, sampling, releases, delta), epsilon)
        }
    };
    let how = if is_exact {
        "of all clients".to_owned()
    } else {
        format!("of a secret sample of {sampling} of the clients each")
    };
    let merges = if rounds == 1 { "merge" } else { "merges" };
    output.line(format_args!(
        "ε {epsilon:.4} at δ {delta:e}: {rounds} {merges} {how}, with noise of {noise:.4} times what one client can change"
    ));
    output.json(&serde_json::json!({
        "epsilon": epsilon,
        "delta": delta,
        "noise": noise,
        "rounds": rounds,
        "sampling": sampling,
    }));
    Ok(())
}
