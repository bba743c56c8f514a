//! `fedmerge server init`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::hex;
use fedmerge_common::ids::FederationName;
use fedmerge_common::output::Output;
use serde::Serialize;

use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;
use crate::files;
use crate::store::ledger::Ledger;
use crate::template;

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge server init hub --name digits --base base.safetensors
  fedmerge server run --dir hub";

/// What `server init` takes.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Directory to make
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The federation's name, a-z 0-9 . _ - [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The model to begin with: a .safetensors file, or a directory that holds model.safetensors
    #[arg(long, value_name = "PATH", default_value = "base.safetensors")]
    pub base: PathBuf,
}

/// The JSON that `server init` prints.
#[derive(Debug, Serialize)]
struct Initialised<'a> {
    event: &'static str,
    federation: &'a FederationName,
    directory: &'a Path,
    authority_pin: String,
}

pub(super) async fn run(arguments: &InitArguments, output: &Output) -> Result<(), Failure> {
    let directory = ServerDirectory::new(&arguments.dir);
    let name = name(arguments)?;
    if directory.settings().exists() || directory.plan().exists() {
        let message = format!(
            "`{}` is a server's directory already",
            arguments.dir.display()
        );
        return Err(Failure::new(ExitCode::Usage, message)
            .with_hint("choose a new directory; what is there was not touched"));
    }
    let authority = Authority::create(&directory, &name, Clock::system().now())?;
    let base = from_plan(&arguments.base, &arguments.dir);
    write(
        &directory.plan(),
        &template::plan(&name, &base.to_string_lossy()),
    )?;
    let state = directory.state();
    fs::create_dir_all(&state).map_err(|error| unwritable(&state, &error))?;
    Ledger::open(&directory.ledger()).await?.close().await;
    // The last file: a directory without it is not a server's.
    write(&directory.settings(), &template::settings())?;
    tell(arguments, &name, output);
    output.json(&Initialised {
        event: "initialised",
        federation: &name,
        directory: directory.root(),
        authority_pin: hex::encode(&authority.pin()),
    });
    Ok(())
}

fn tell(arguments: &InitArguments, name: &FederationName, output: &Output) {
    let dir = arguments.dir.display();
    output.line(format_args!("made federation {name} in {dir}"));
    output.line(format_args!(
        "  {dir}/federation.toml  the plan: base, rounds, merge"
    ));
    output.line(format_args!(
        "  {dir}/server.toml      addresses and limits"
    ));
    output.line(format_args!(
        "  {dir}/identity         keys: back them up, show them to nobody"
    ));
    output.line("next:");
    if !arguments.base.exists() {
        output.line(format_args!(
            "  put the base model at {}, or set `base` in the plan",
            arguments.base.display()
        ));
    }
    output.line(format_args!("  fedmerge server run --dir {dir}"));
    output.line(format_args!(
        "  fedmerge server token create --dir {dir}     (prints the string that lets clients join)"
    ));
}

fn name(arguments: &InitArguments) -> Result<FederationName, Failure> {
    if let Some(name) = &arguments.name {
        return name.parse().map_err(|error| {
            let message = format!("`{name}` cannot be a federation's name");
            Failure::new(ExitCode::Usage, message).with_source(&error)
        });
    }
    let absolute = std::path::absolute(&arguments.dir).unwrap_or_else(|_| arguments.dir.clone());
    let name = absolute.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.to_ascii_lowercase().parse().ok())
        .ok_or_else(|| {
            Failure::new(
                ExitCode::Usage,
                "the directory's name cannot be a federation's name",
            )
            .with_hint("choose a name: --name NAME")
        })
}

/// A path as seen from the plan's directory: relative paths stay relative, so that the whole can be moved.
fn from_plan(path: &Path, directory: &Path) -> PathBuf {
    let is_plain = |path: &Path| {
        path.components().all(|part| {
            matches!(
                part,
                std::path::Component::Normal(_) | std::path::Component::CurDir
            )
        })
    };
    if path.is_absolute() {
        return path.to_owned();
    }
    if let Ok(inside) = path.strip_prefix(directory) {
        return inside.to_owned();
    }
    if is_plain(directory) {
        let up = directory
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)));
        return up.map(|_| "..").collect::<PathBuf>().join(path);
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| unwritable(path, &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    files::write(path, text.as_bytes()).map_err(failed)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("`{}` cannot be written", path.display());
    Failure::new(ExitCode::Unavailable, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_named_as_the_plan_sees_it() {
        for (base, directory, seen) in [
            ("base.safetensors", "hub", "../base.safetensors"),
            ("base.safetensors", "a/hub", "../../base.safetensors"),
            ("./models/x", "./hub", "../models/x"),
            ("hub/base.safetensors", "hub", "base.safetensors"),
            ("/models/base", "hub", "/models/base"),
        ] {
            let found = from_plan(Path::new(base), Path::new(directory));
            let plain: PathBuf = found.components().collect();
            assert_eq!(
                plain.display().to_string().replace("/./", "/"),
                seen,
                "{base} from {directory}"
            );
        }
        assert!(from_plan(Path::new("base"), Path::new("/srv/hub")).is_absolute());
    }
}
