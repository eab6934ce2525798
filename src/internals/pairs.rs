//! Chooses few kernels that contain every shader file, or every pair of them.

use crate::kernels::Kernel;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Two shader files, each with its case, that meet in one kernel.
type Pair = (u32, u32);

/// Chooses items, each with its kernels, that together have every pair. Any two shader files, each with its case,
/// that meet in a kernel of some item also meet in a kernel of a chosen item. Takes the item with the most new pairs
/// per kernel next. The chosen items keep their order.
pub fn covering_pairs<T>(items: impl IntoIterator<Item = (T, Vec<Kernel>)>) -> Vec<T> {
    cover(items, |_| true)
}

/// Chooses items as [`covering_pairs`] does that together have every shader file with every case that is in a kernel of
/// some item. These are fewer.
pub fn covering_files<T>(items: impl IntoIterator<Item = (T, Vec<Kernel>)>) -> Vec<T> {
    cover(items, |(one, other)| one == other)
}

/// Chooses items that together have every wanted pair. A file makes a pair with itself, too.
fn cover<T>(items: impl IntoIterator<Item = (T, Vec<Kernel>)>, is_wanted: fn(&Pair) -> bool) -> Vec<T> {
    let mut numbers = HashMap::new();
    let mut known: HashMap<Kernel, Vec<Pair>> = HashMap::new();
    let mut candidates = Vec::new();
    for (item, kernels) in items {
        let mut pairs = HashSet::new();
        for kernel in &kernels {
            let of_kernel = known.entry(*kernel).or_insert_with(|| pairs_of(kernel, &mut numbers));
            pairs.extend(of_kernel.iter().filter(|pair| is_wanted(pair)).copied());
        }
        candidates.push((item, pairs, kernels.len().max(1)));
    }
    // An item's gain only shrinks. An item that still has the largest gain after a recount is the best.
    let worth = |pairs: usize, kernels: usize| pairs * 1_000 / kernels;
    let all = candidates.iter().enumerate();
    let mut heap: BinaryHeap<_> =
        all.map(|(k, (_, pairs, kernels))| (worth(pairs.len(), *kernels), Reverse(k))).collect();
    let (mut seen, mut chosen): (HashSet<Pair>, HashSet<usize>) = Default::default();
    while let Some((_, Reverse(k))) = heap.pop() {
        let (_, pairs, kernels) = &candidates[k];
        let new = pairs.difference(&seen).count();
        if new == 0 {
            continue;
        }
        let now = (worth(new, *kernels), Reverse(k));
        if heap.peek().is_some_and(|next| *next > now) {
            heap.push(now);
        } else {
            seen.extend(pairs);
            chosen.insert(k);
        }
    }
    let items = candidates.into_iter().enumerate().filter(|(k, _)| chosen.contains(k));
    items.map(|(_, (item, ..))| item).collect()
}

/// Returns the shader files of a kernel, each with its case: the headings of the composed text.
fn files(kernel: &Kernel) -> Vec<String> {
    let is_heading = |line: &&str| {
        let file = line.strip_prefix("// ").and_then(|line| line.split_once(".wgsl"));
        file.is_some_and(|(file, case)| !file.contains(' ') && (case.is_empty() || case.starts_with(", ")))
    };
    kernel.wgsl().lines().filter(is_heading).map(str::to_owned).collect()
}

/// Returns the pairs of a kernel, as numbers of its files.
fn pairs_of(kernel: &Kernel, numbers: &mut HashMap<String, u32>) -> Vec<Pair> {
    let mut number = |file: String| {
        let next = numbers.len() as u32;
        *numbers.entry(file).or_insert(next)
    };
    let mut files: Vec<u32> = files(kernel).into_iter().map(&mut number).collect();
    files.sort_unstable();
    let with_earlier =
        |(k, one): (usize, &u32)| files[..=k].iter().map(|other| (*other, *one)).collect::<Vec<_>>();
    files.iter().enumerate().flat_map(with_earlier).collect()
}

#[cfg(test)]
mod tests {
    use super::{covering_files, covering_pairs, files};
    use crate::internals::every_variant;
    use crate::kernels::Kernel;
    use std::collections::HashSet;

    fn pairs(kernels: &[Kernel]) -> HashSet<(String, String)> {
        let of_kernel = |kernel: &Kernel| {
            let files = files(kernel);
            files
                .iter()
                .flat_map(|one| files.iter().map(|other| (one.clone(), other.clone())))
                .collect::<Vec<_>>()
        };
        kernels.iter().flat_map(of_kernel).collect()
    }

    #[test]
    fn few_kernels_have_every_pair() {
        let all = every_variant(8, (8, 8));
        let few = covering_pairs(all.iter().map(|kernel| (*kernel, vec![*kernel])));
        assert!(few.len() * 3 < all.len(), "{} of {}", few.len(), all.len());
        assert!(pairs(&few) == pairs(&all));
        // None of them is redundant, and they keep their order.
        assert_eq!(covering_pairs(few.iter().map(|kernel| (*kernel, vec![*kernel]))).len(), few.len());
        assert!(few.is_sorted_by_key(|kernel| all.iter().position(|other| other == kernel)));
        let none: Vec<()> = covering_pairs([((), vec![])]);
        assert!(none.is_empty());
    }

    #[test]
    fn fewer_kernels_have_every_file() {
        let all = every_variant(8, (8, 8));
        let few = covering_files(all.iter().map(|kernel| (*kernel, vec![*kernel])));
        let names = |kernels: &[Kernel]| kernels.iter().flat_map(files).collect::<HashSet<_>>();
        assert!(names(&few) == names(&all));
        assert!(few.len() < names(&all).len(), "{} of {}", few.len(), all.len());
    }
}
