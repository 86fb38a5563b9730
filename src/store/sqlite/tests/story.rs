//! Beside the memory store.

use super::*;

/// The same story told to both stores.
struct Pair {
    path: PathBuf,
    clock: Clock,
    memory: MemoryStore,
    sqlite: Option<SqliteStore>,
    chance: SeededChance,
    /// What both had under each key, at several moments.
    seen: Vec<[Vec<Option<u64>>; 2]>,
}

impl Pair {
    fn new(folder: &TempDir, seed: u64) -> Self {
        let (path, clock) = (folder.path().join("store"), Clock::manual(NOW));
        let memory = MemoryStore::new(clock.clone());
        let (sqlite, seen) = (None, vec![[vec![None; 6], vec![None; 6]]]);
        let mut pair = Self { path, clock, memory, sqlite, chance: SeededChance(seed), seen };
        pair.reopen();
        pair
    }

    fn reopen(&mut self) {
        self.sqlite = None;
        self.sqlite = Some(SqliteStore::open(&self.path, |_| self.clock.clone()).unwrap());
    }

    fn below(&mut self, bound: u64) -> Millis {
        Millis::try_from(self.chance.below(bound)).unwrap()
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.chance.below(6)).unwrap()
    }

    /// Some writes under some guards, which may be stale.
    fn commits(&mut self) -> [Commit; 2] {
        let [mut one, mut other] = [Commit::default(), Commit::default()];
        for _ in 0..self.below(3) {
            let age = 1 + usize::try_from(self.below(3)).unwrap().min(self.seen.len() - 1);
            let (at, moment) = (self.pick(), self.seen.len() - age);
            let [in_memory, in_sqlite] = &self.seen[moment];
            one.guards.push((key(&at.to_string()), in_memory[at]));
            other.guards.push((key(&at.to_string()), in_sqlite[at]));
        }
        for _ in 0..self.below(4) {
            let (at, value) = (self.pick(), vec![self.below(9).to_le_bytes()[0]]);
            let expires_at = self.clock.now() + self.below(12);
            let due_at = (self.below(2) == 0).then(|| self.clock.now() + self.below(6) - 3);
            let put = Write::Put { value, expires_at, due_at };
            let write = if self.below(4) == 0 { Write::Delete } else { put };
            one.writes.push((key(&at.to_string()), write));
        }
        other.writes.clone_from(&one.writes);
        [one, other]
    }

    async fn step(&mut self) {
        match self.below(10) {
            0 => self.reopen(),
            1 | 2 => self.clock.advance(self.chance.below(5).try_into().unwrap()),
            _ => {
                let [one, other] = self.commits();
                let told = format!("{one:?}");
                let one = self.memory.commit(one).await.unwrap();
                let other = self.sqlite.as_ref().unwrap().commit(other).await.unwrap();
                assert_eq!(one, other, "{told}");
            }
        }
    }

    async fn compare(&mut self) {
        let sqlite = self.sqlite.as_ref().unwrap();
        let keys: Vec<_> = (0..6).map(|at| key(&at.to_string())).collect();
        let one = self.memory.read(&keys).await.unwrap();
        let other = sqlite.read(&keys).await.unwrap();
        let values = |records: &[Option<Record>]| -> Vec<_> {
            records.iter().map(|it| it.as_ref().map(|it| it.value.clone())).collect()
        };
        assert_eq!(values(&one), values(&other));
        let revisions = |records: Vec<Option<Record>>| -> Vec<_> {
            records.into_iter().map(|it| it.map(|it| it.revision)).collect()
        };
        self.seen.push([revisions(one), revisions(other)]);
        let now = self.clock.now();
        let mut due = [self.memory.due(now, 9).await.unwrap(), sqlite.due(now, 9).await.unwrap()];
        // Those due at one moment have no order.
        for due in &mut due {
            due.sort();
        }
        assert_eq!(due[0], due[1]);
    }
}

#[tokio::test]
async fn it_tells_the_same_story_as_the_memory_store() {
    for seed in 0..10 {
        eprintln!("seed {seed}");
        let folder = quick_folder();
        let mut pair = Pair::new(&folder, seed);
        for _ in 0..200 {
            pair.step().await;
            pair.compare().await;
        }
    }
}
