//! Publications and imports, done once, twice, and after a crash half way.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;
use std::sync::atomic::AtomicBool;

use fedmerge_common::clock::Clock;
use fedmerge_common::dtype::Dtype;
use fedmerge_merge::{Method, Recipe};
use tempfile::TempDir;

use super::*;
use crate::merging::merge;
use crate::testbed::{Bed, some_digest, values_of, write};

const NOW: Timestamp = Timestamp::new(1000);

fn authority(bed: &Bed) -> Arc<Authority> {
    Arc::new(bed.authority())
}

async fn candidate() -> (Bed, Ledger, Publication) {
    let bed = Bed::new();
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    let update = bed.update(1, "ward-1", 1, &[("w", Dtype::F32, &[1.0, 1.0])]);
    let job = bed.job(&[update], Recipe::of(Method::Mean));
    let merged = merge(&job, &AtomicBool::new(false)).unwrap();
    let publication = Publication {
        round: job.round,
        parent: bed.base.digest,
        candidate: merged.candidate,
        score: None,
        now: NOW,
    };
    (bed, ledger, publication)
}

async fn is_published(bed: &Bed, ledger: &Ledger, publication: &Publication) -> bool {
    let version = publication.candidate.version;
    let path = bed.directory.model(version).join(files::MODEL);
    let newest = ledger.newest_model().await.unwrap();
    Digest::of_file(&path).is_ok_and(|digest| digest == publication.candidate.digest)
        && newest.is_some_and(|stored| stored.model == publication.candidate)
        && !bed.directory.candidate(publication.round).exists()
}

#[tokio::test]
async fn a_publication_may_be_repeated() {
    let (bed, ledger, publication) = candidate().await;
    for _ in 0..2 {
        publish((&bed.directory, &ledger), &authority(&bed), &publication)
            .await
            .unwrap();
        assert!(is_published(&bed, &ledger, &publication).await);
    }
    let published = bed.directory.model(publication.candidate.version);
    let proven = proof::check(&published, bed.authority().certificate());
    assert_eq!(proven.unwrap().name, "digits/1");
    let stored = ledger.newest_model().await.unwrap().unwrap();
    assert_eq!(stored.parent, Some(bed.base.digest));
    assert_eq!(stored.published, NOW);
}

#[tokio::test]
async fn a_crash_between_the_rename_and_the_transaction_is_mended_by_the_repetition() {
    let (bed, ledger, publication) = candidate().await;
    let published = bed.directory.model(publication.candidate.version);
    put_in_place(&bed.directory.candidate(publication.round), &published).unwrap();
    assert!(!is_published(&bed, &ledger, &publication).await);
    publish((&bed.directory, &ledger), &authority(&bed), &publication)
        .await
        .unwrap();
    assert!(is_published(&bed, &ledger, &publication).await);
}

#[tokio::test]
async fn what_an_abandoned_publication_left_gives_way() {
    let (bed, ledger, publication) = candidate().await;
    let published = bed.directory.model(publication.candidate.version);
    fs::create_dir_all(&published).unwrap();
    fs::write(published.join(files::MODEL), "of another round").unwrap();
    publish((&bed.directory, &ledger), &authority(&bed), &publication)
        .await
        .unwrap();
    assert!(is_published(&bed, &ledger, &publication).await);
}

#[tokio::test]
async fn without_a_candidate_nothing_is_published() {
    let (bed, ledger, publication) = candidate().await;
    fs::remove_dir_all(bed.directory.candidate(publication.round)).unwrap();
    let error = publish((&bed.directory, &ledger), &authority(&bed), &publication)
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Missing { .. }), "{error}");
    assert_eq!(ledger.newest_model().await.unwrap(), None);
}

#[tokio::test]
async fn a_version_never_becomes_another_model() {
    let (bed, ledger, publication) = candidate().await;
    publish((&bed.directory, &ledger), &authority(&bed), &publication)
        .await
        .unwrap();
    let mut other = publication.clone();
    other.candidate.digest = some_digest();
    let error = publish((&bed.directory, &ledger), &authority(&bed), &other)
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Ledger(_)), "{error}");
    assert!(is_published(&bed, &ledger, &publication).await);
}

struct Import {
    directory: ServerDirectory,
    ledger: Ledger,
    authority: Arc<Authority>,
    root: TempDir,
}

impl Import {
    async fn new() -> Self {
        let root = TempDir::new().unwrap();
        let directory = ServerDirectory::new(root.path().join("hub"));
        let now = Clock::with_offset(0).now();
        let name = "digits".parse().unwrap();
        let authority = Authority::create(&directory, &name, now).unwrap();
        for place in [directory.models(), directory.state()] {
            fs::create_dir_all(place).unwrap();
        }
        let ledger = Ledger::open(&directory.ledger()).await.unwrap();
        Self {
            directory,
            ledger,
            authority: Arc::new(authority),
            root,
        }
    }

    async fn import(&self, path: &Path) -> Result<ModelRef, ImportBaseError> {
        import_base((&self.directory, &self.ledger), &self.authority, path, NOW).await
    }

    fn model(&self) -> PathBuf {
        self.directory
            .model(ModelVersion::new(0))
            .join(files::MODEL)
    }
}

#[tokio::test]
async fn a_base_of_one_file_keeps_its_digest_and_may_be_imported_again() {
    let desk = Import::new().await;
    let path = desk.root.path().join("base.safetensors");
    let base = write(&path, &[("w", Dtype::F16, &[1.0, 2.0])]);
    // A crash half way left this.
    let part = desk.directory.models().join("0.part");
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join(files::MODEL), "half").unwrap();
    for _ in 0..2 {
        assert_eq!(desk.import(&path).await.unwrap(), base);
        assert_eq!(Digest::of_file(&desk.model()).unwrap(), base.digest);
    }
    assert!(!part.exists());
    let newest = desk.ledger.newest_model().await.unwrap().unwrap();
    assert_eq!(newest.model, base);
}

#[tokio::test]
async fn a_crash_before_the_ledger_knows_the_base_is_mended_by_the_next_import() {
    let desk = Import::new().await;
    let path = desk.root.path().join("base.safetensors");
    let base = write(&path, &[("w", Dtype::F32, &[1.0, 2.0])]);
    let target = desk.directory.model(ModelVersion::new(0));
    import_files(&path, &target, &desk.authority).unwrap();
    assert_eq!(desk.ledger.newest_model().await.unwrap(), None);
    assert_eq!(desk.import(&path).await.unwrap(), base);
}

#[tokio::test]
async fn the_shards_of_a_base_are_joined_and_its_configuration_comes_along() {
    let desk = Import::new().await;
    let path = desk.root.path().join("sharded");
    fs::create_dir(&path).unwrap();
    let shards = ["model-00001-of-00002", "model-00002-of-00002"];
    write(
        &path.join(format!("{}.safetensors", shards[0])),
        &[("a", Dtype::F32, &[1.0, 2.0])],
    );
    write(
        &path.join(format!("{}.safetensors", shards[1])),
        &[("b", Dtype::Bf16, &[3.0])],
    );
    let index = serde_json::json!({ "metadata": {}, "weight_map": {
        "a": format!("{}.safetensors", shards[0]),
        "b": format!("{}.safetensors", shards[1]),
    }});
    fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(path.join("config.json"), "{}").unwrap();
    let base = desk.import(&path).await.unwrap();
    assert_eq!(Digest::of_file(&desk.model()).unwrap(), base.digest);
    assert_eq!(values_of(&desk.model(), "a"), [1.0, 2.0]);
    assert_eq!(values_of(&desk.model(), "b"), [3.0]);
    let names = fs::read_dir(desk.model().parent().unwrap()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", files::MANIFEST, files::MODEL, proof::FILE]
    );
    let authority = desk.authority.certificate();
    let proven = proof::check(desk.model().parent().unwrap(), authority);
    assert_eq!(proven.unwrap().name, "digits/0");
}

#[tokio::test]
async fn a_base_with_nothing_to_merge_is_refused() {
    let desk = Import::new().await;
    let path = desk.root.path().join("base.safetensors");
    write(&path, &[("steps", Dtype::I64, &[0.0])]);
    let error = desk.import(&path).await.unwrap_err();
    assert!(
        matches!(error, ImportBaseError::NothingToMerge { .. }),
        "{error}"
    );
    assert_eq!(desk.ledger.newest_model().await.unwrap(), None);
}

#[tokio::test]
async fn after_a_rotation_models_are_proven_anew_but_not_under_another_s_name() {
    let desk = Import::new().await;
    let path = desk.root.path().join("base.safetensors");
    write(&path, &[("w", Dtype::F32, &[1.0, 2.0])]);
    desk.import(&path).await.unwrap();
    let first = desk.directory.model(ModelVersion::new(0));
    // Somebody passes the first model off as the second, and changes a third.
    for version in [1, 2] {
        let copy = desk.directory.model(ModelVersion::new(version));
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&first).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let third = desk.directory.model(ModelVersion::new(2));
    fs::write(third.join(files::MANIFEST), "{}").unwrap();
    let now = Clock::with_offset(0).now();
    let day = fedmerge_common::units::Millis::from_secs(86_400);
    let new = desk.authority.rotate(&desk.directory, now, day).unwrap();
    let old = desk.authority.certificate();
    let mut unproven = prove_again(&desk.directory, old, &new).unwrap();
    unproven.sort_unstable();
    assert_eq!(unproven, [1, 2].map(ModelVersion::new));
    // Whoever knows the new authority alone believes it, and so does whoever knows the old one alone.
    for authority in [new.certificate(), old] {
        assert_eq!(proof::check(&first, authority).unwrap().name, "digits/0");
    }
}
