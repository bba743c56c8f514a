//! Chunks that travel packed, both ways.

use super::*;

/// A base that is here as `here`, while the server knows it as `there`; and what is asked for then.
async fn fetched_as_distances(here: &[u8], there: Vec<u8>) -> Bench {
    let (digest, whole) = (Digest::of(&there), content().len() as u64);
    let bench = bench(Depot {
        changed: std::iter::once(0..whole).collect(),
        older: Some(there),
        ..depot([])
    })
    .await;
    let cache = Cache::open(bench.root.path().to_owned()).unwrap();
    fs::write(cache.path(&digest), here).unwrap();
    let path = in_time(download::fetch(&bench.link, &cache, &model())).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    bench
}

#[tokio::test]
async fn a_base_may_come_as_its_distances_from_one_that_is_here() {
    let older: Vec<u8> = content().iter().map(|byte| byte ^ 1).collect();
    let bench = fetched_as_distances(&older, older.clone()).await;
    assert_eq!(offsets(&bench), [0]);
}

#[tokio::test]
async fn a_base_that_was_changed_on_disk_is_not_used_twice() {
    let older = content().iter().map(|byte| byte ^ 1).collect();
    let bench = fetched_as_distances(&content(), older).await;
    assert_eq!(offsets(&bench), [0, 0]);
}

#[tokio::test]
async fn an_update_is_packed_for_a_server_that_takes_that() {
    let (bench, answer) = submitted(Depot {
        packs: true,
        ..depot([])
    })
    .await;
    assert_eq!(answer.unwrap(), Answer::Accepted);
    assert_eq!(*bench.depot.staged.lock().unwrap(), content());
    assert!(*bench.depot.packed_chunks.lock().unwrap() > 0);
    let (bench, _answer) = submitted(depot([])).await;
    assert_eq!(*bench.depot.packed_chunks.lock().unwrap(), 0);
}
