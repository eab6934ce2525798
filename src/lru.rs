//! A cache of recently used values.

use std::sync::Arc;

/// A least-recently-used cache of values by key. It is small enough for a linear search.
#[derive(Debug)]
pub(crate) struct LruCache<K, V> {
    limit: usize,
    /// Entries in order of use. The most recently used entry is last.
    entries: Vec<(K, Arc<V>)>,
}

impl<K: PartialEq, V> LruCache<K, V> {
    /// Creates a cache that keeps up to `limit` values. `limit` is at least 1.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Vec::new() }
    }

    /// Returns how many values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the value for `key` is cached.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.entries.iter().any(|(other, _)| other == key)
    }

    /// Returns the value for `key`, cached or made now. An error of `make` leaves the cache unchanged.
    pub(crate) fn get<E>(&mut self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let entry = match self.entries.iter().position(|(other, _)| *other == key) {
            Some(index) => self.entries.remove(index),
            None => (key, Arc::new(make()?)),
        };
        if self.entries.len() >= self.limit {
            self.entries.remove(0);
        }
        let value = entry.1.clone();
        self.entries.push(entry);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::LruCache;
    use std::sync::Arc;

    #[test]
    fn values_are_made_once_and_the_oldest_go_first() {
        let mut recent = LruCache::<u32, String>::new(3);
        let mut made = Vec::new();
        let mut get = |recent: &mut LruCache<u32, String>, key: u32| {
            let value = recent.get(key, || {
                made.push(key);
                Ok::<_, ()>(key.to_string())
            });
            assert_eq!(value, Ok(Arc::new(key.to_string())));
        };
        for key in [1, 2, 3, 1, 2, 1, 3] {
            get(&mut recent, key);
        }
        // 2 is the least recently used, so 4 evicts it. The last 2 evicts 1.
        for key in [4, 1, 3, 4, 2] {
            get(&mut recent, key);
        }
        // So only 1 is made again.
        for key in [3, 4, 2, 1] {
            get(&mut recent, key);
        }
        assert_eq!(made, [1, 2, 3, 4, 2, 1]);
    }

    #[test]
    fn an_error_is_not_kept() {
        let mut recent = LruCache::<u32, u32>::new(1);
        recent.get(1, || Ok::<_, &str>(10)).unwrap_or_default();
        assert_eq!(recent.get(2, || Err("no")), Err("no"));
        assert_eq!(recent.get(1, || Err("it is still there")), Ok(Arc::new(10)));
        assert_eq!(recent.get(2, || Ok::<_, &str>(20)), Ok(Arc::new(20)));
    }
}
