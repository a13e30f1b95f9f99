//! What a client has read and keeps: in memory, and on disk where its builder says so.
//!
//! References and readings enter; a reading leaves that is no older than the client keeps them. It asks no store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

use super::disk::{self, Disk};
use crate::{api::reference::Source, provider::Reading};

pub(super) struct Kept {
    memory: Cache<Source, Arc<Reading>>,
    disk: Option<Arc<Disk>>,
    /// How often it was emptied.
    emptied: Arc<AtomicU64>,
}

impl Kept {
    pub(super) fn new(values: u64, life: Duration, disk: Option<Disk>) -> Self {
        let memory = Cache::builder().max_capacity(values).time_to_live(life).build();
        Self { memory, disk: disk.map(Arc::new), emptied: Arc::default() }
    }

    /// What was read. What is found on disk is not taken into memory, where its time would begin anew.
    pub(super) async fn get(&self, source: &Source) -> Option<Arc<Reading>> {
        if let Some(reading) = self.memory.get(source) {
            return Some(reading);
        }
        let asked = source.clone();
        self.on_disk(move |disk| disk.get(&asked, disk::now())).await.flatten().map(Arc::new)
    }

    /// A mark of now, before something is read.
    pub(super) fn mark(&self) -> (u64, u64) {
        (self.emptied.load(Ordering::Acquire), disk::now())
    }

    /// Keeps what was read since this mark, unless it was emptied meanwhile: it may be what a write of our own has replaced.
    pub(super) async fn insert(&self, source: &Source, reading: &Arc<Reading>, (emptied, at): (u64, u64)) {
        let count = self.emptied.clone();
        let holds = move || count.load(Ordering::Acquire) == emptied;
        self.memory.insert(source.clone(), reading.clone());
        if !holds() {
            self.memory.invalidate(source);
            return;
        }
        let (source, reading) = (source.clone(), reading.clone());
        self.on_disk(move |disk| disk.put(&source, at, &reading, holds)).await;
    }

    pub(super) async fn remove(&self, source: &Source) {
        self.memory.invalidate(source);
        let source = source.clone();
        self.on_disk(move |disk| disk.remove(&source)).await;
    }

    pub(super) async fn empty(&self) {
        self.emptied.fetch_add(1, Ordering::AcqRel);
        self.memory.invalidate_all();
        self.on_disk(Disk::empty).await;
    }

    async fn on_disk<T: Send + 'static>(&self, does: impl FnOnce(&Disk) -> T + Send + 'static) -> Option<T> {
        let disk = self.disk.clone()?;
        tokio::task::spawn_blocking(move || does(&disk)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            disk::tests::Place,
            sealing::tests::{reading, source},
        },
        *,
    };

    #[tokio::test]
    async fn what_was_read_before_a_write_is_not_kept_after_it() {
        let place = Place::new("kept");
        let (kept, db) = (Kept::new(10, Duration::from_secs(60), Some(place.disk(1, 10))), source("vault://kv/db"));
        let again = || Kept::new(10, Duration::from_secs(60), Some(place.disk(1, 10)));
        let one = Arc::new(reading(b"one"));
        let mark = kept.mark();
        kept.empty().await;
        kept.insert(&db, &one, mark).await;
        assert!(kept.get(&db).await.is_none() && again().get(&db).await.is_none());
        kept.insert(&db, &one, kept.mark()).await;
        assert!(kept.get(&db).await.is_some() && again().get(&db).await.is_some());
        kept.remove(&db).await;
        assert!(kept.get(&db).await.is_none() && again().get(&db).await.is_none());
    }
}
