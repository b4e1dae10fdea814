//! Candidates for the search over a table's fences, on three key sets: 24 random bytes, big-endian
//! numbers in sequence, URLs with long shared prefixes. `cargo bench --bench table_index`.
//!
//! What each candidate answers: how many fences are at or before a key. All but the engine's own resolve
//! equal heads by comparing whole fences. The results are in `docs/decisions/0002-table-index.md`.

use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::time::Duration;

#[allow(dead_code)]
#[path = "../src/table/fence.rs"]
mod fence;

use fence::{Fences, common_prefix, head, separator};

/// A block of 16 KiB holds about this many records of 174 bytes.
const KEYS_PER_BLOCK: usize = 94;
const PROBES: usize = 1 << 16;

trait Search {
    fn rank(&self, key: &[u8]) -> usize;
}

impl Search for Fences {
    fn rank(&self, key: &[u8]) -> usize {
        Fences::rank(self, key)
    }
}

/// Fences and their heads in plain order; what the simple candidates share.
struct Plain {
    prefix: Vec<u8>,
    heads: Vec<u64>,
    fences: Vec<Vec<u8>>,
}

impl Plain {
    fn new(set: &Set) -> Plain {
        let suffixes = set.fences.iter().map(|fence| fence[set.prefix.len()..].to_vec());
        let fences: Vec<Vec<u8>> = suffixes.collect();
        let heads = fences.iter().map(|fence| head(fence)).collect();
        Plain { prefix: set.prefix.clone(), heads, fences }
    }

    /// `lower` finds the first head that is not before the one given.
    #[inline]
    fn rank_with(&self, key: &[u8], lower: impl Fn(u64) -> usize) -> usize {
        let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else {
            return if key < self.prefix.as_slice() { 0 } else { self.heads.len() };
        };
        let wanted = head(rest);
        let low = lower(wanted);
        if self.heads.get(low) != Some(&wanted) {
            return low;
        }
        let ties = self.heads[low..].partition_point(|head| *head == wanted);
        low + self.fences[low..low + ties].partition_point(|fence| fence.as_slice() <= rest)
    }
}

/// `partition_point` over the heads.
struct Halving(Plain);

impl Search for Halving {
    fn rank(&self, key: &[u8]) -> usize {
        self.0.rank_with(key, |wanted| self.0.heads.partition_point(|head| *head < wanted))
    }
}

/// Guesses by position between the ends, at most four times, then halves.
struct Interpolation(Plain);

impl Search for Interpolation {
    fn rank(&self, key: &[u8]) -> usize {
        let heads = &self.0.heads;
        self.0.rank_with(key, |wanted| {
            let (mut low, mut high) = (0, heads.len());
            for _ in 0..4 {
                if high - low < 8 || wanted <= heads[low] || wanted > heads[high - 1] {
                    break;
                }
                let (least, span) = (heads[low], heads[high - 1] - heads[low]);
                let part = u128::from(wanted - least) * (high - 1 - low) as u128;
                let guess = low + (part / u128::from(span)) as usize;
                // A margin on the other side narrows both ends at once.
                let margin = ((high - low) as f64).sqrt() as usize + 1;
                if heads[guess] < wanted {
                    low = guess + 1;
                    if low + margin < high && heads[low + margin] >= wanted {
                        high = low + margin + 1;
                    }
                } else {
                    high = guess + 1;
                    if guess > low + margin && heads[guess - margin] < wanted {
                        low = guess - margin + 1;
                    }
                }
            }
            low + heads[low..high].partition_point(|head| *head < wanted)
        })
    }
}

/// A binary tree in breadth-first order.
struct Eytzinger {
    plain: Plain,
    tree: Vec<u64>,
    places: Vec<u32>,
}

impl Eytzinger {
    fn new(plain: Plain) -> Eytzinger {
        let count = plain.heads.len();
        let (mut tree, mut places) = (vec![0; count + 1], vec![count as u32; count + 1]);
        fn fill(
            heads: &[u64],
            next: &mut usize,
            node: usize,
            tree: &mut [u64],
            places: &mut [u32],
        ) {
            if node < tree.len() {
                fill(heads, next, 2 * node, tree, places);
                (tree[node], places[node]) = (heads[*next], *next as u32);
                *next += 1;
                fill(heads, next, 2 * node + 1, tree, places);
            }
        }
        fill(&plain.heads, &mut 0, 1, &mut tree, &mut places);
        Eytzinger { plain, tree, places }
    }
}

impl Search for Eytzinger {
    fn rank(&self, key: &[u8]) -> usize {
        self.plain.rank_with(key, |wanted| {
            let mut node = 1;
            while node < self.tree.len() {
                node = 2 * node + usize::from(self.tree[node] < wanted);
            }
            self.places[node >> (node.trailing_ones() + 1)] as usize
        })
    }
}

/// A static B-tree: nodes of eight heads, one cache line each, nine ways out of each.
struct StaticBTree {
    plain: Plain,
    /// Levels from the root down; the last is the heads themselves, padded.
    levels: Vec<Vec<[u64; 8]>>,
}

impl StaticBTree {
    fn new(plain: Plain) -> StaticBTree {
        let pad = |heads: &[u64]| {
            heads
                .chunks(8)
                .map(|chunk| std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(u64::MAX)))
                .collect::<Vec<[u64; 8]>>()
        };
        let mut levels = vec![pad(&plain.heads)];
        let mut firsts: Vec<u64> = levels[0].iter().map(|node| node[0]).collect();
        while levels[0].len() > 1 {
            // Nine children a node: the firsts of all but the first of them are its heads.
            let nodes: Vec<&[u64]> = firsts.chunks(9).collect();
            let level: Vec<[u64; 8]> = nodes
                .iter()
                .map(|node| pad(&node[1..]).first().copied().unwrap_or([u64::MAX; 8]))
                .collect();
            firsts = nodes.iter().map(|node| node[0]).collect();
            levels.insert(0, level);
        }
        StaticBTree { plain, levels }
    }
}

impl Search for StaticBTree {
    fn rank(&self, key: &[u8]) -> usize {
        self.plain.rank_with(key, |wanted| {
            let mut node = 0;
            let (last, inner) = self.levels.split_last().expect("there is a level");
            let before = |node: &[u64; 8]| {
                node.iter().map(|head| usize::from(*head < wanted)).sum::<usize>()
            };
            for level in inner {
                node = 9 * node + before(&level[node]);
            }
            // Padding is never before anything, and a whole node that is before `wanted` leads to the next.
            8 * node + before(&last[node])
        })
    }
}

struct Set {
    name: &'static str,
    prefix: Vec<u8>,
    fences: Vec<Vec<u8>>,
    probes: Vec<Vec<u8>>,
}

impl Set {
    fn new(name: &'static str, mut keys: Vec<Vec<u8>>, random: &mut Random) -> Set {
        keys.sort_unstable();
        keys.dedup();
        let fences: Vec<Vec<u8>> = (KEYS_PER_BLOCK..keys.len())
            .step_by(KEYS_PER_BLOCK)
            .map(|first| separator(&keys[first - 1], &keys[first]).to_vec())
            .collect();
        let (first, last) = (&fences[0], &fences[fences.len() - 1]);
        let prefix = first[..common_prefix(first, last)].to_vec();
        let probes = (0..PROBES).map(|_| keys[random.below(keys.len())].clone()).collect();
        Set { name, prefix, fences, probes }
    }

    fn layers(&self) -> Fences {
        let (mut ends, mut suffixes) = (Vec::new(), Vec::new());
        for fence in &self.fences {
            suffixes.extend_from_slice(&fence[self.prefix.len()..]);
            ends.push(suffixes.len() as u32);
        }
        Fences::new(&self.prefix, &ends, &suffixes).expect("the offsets fit")
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn sets(count: usize) -> Vec<Set> {
    let mut random = Random(1);
    let bytes = (0..count)
        .map(|_| (0..3).flat_map(|_| random.next().to_le_bytes()).collect::<Vec<u8>>())
        .collect();
    let numbers = (0..count as u64).map(|number| number.to_be_bytes().to_vec()).collect();
    // A few hundred hosts, paths of words, a number at the end: skewed, with prefixes of 20 to 60 bytes.
    let words = ["alpha", "beta", "catalog", "download", "images", "index", "products", "search"];
    let urls = (0..count)
        .map(|_| {
            let host = random.below(400).min(random.below(400));
            let mut url = format!("https://www.example-{host:03}.com");
            for _ in 0..1 + random.below(4) {
                url.push('/');
                url.push_str(words[random.below(8)]);
            }
            url.push_str(&format!("/item-{:07}.html", random.below(5_000_000)));
            url.into_bytes()
        })
        .collect();
    vec![
        Set::new("random", bytes, &mut random),
        Set::new("sequence", numbers, &mut random),
        Set::new("urls", urls, &mut random),
    ]
}

fn rank(criterion: &mut Criterion) {
    for records in [100_000, 5_000_000] {
        for set in sets(records) {
            let candidates: Vec<(&str, Box<dyn Search>)> = vec![
                ("halving", Box::new(Halving(Plain::new(&set)))),
                ("interpolation", Box::new(Interpolation(Plain::new(&set)))),
                ("eytzinger", Box::new(Eytzinger::new(Plain::new(&set)))),
                ("static-b-tree", Box::new(StaticBTree::new(Plain::new(&set)))),
                ("bucket-layers", Box::new(set.layers())),
            ];
            let expected = |key: &Vec<u8>| set.fences.partition_point(|fence| fence <= key);
            for (name, search) in &candidates {
                let wrong = set.probes.iter().find(|key| search.rank(key) != expected(key));
                assert_eq!(wrong, None, "{name} on {}", set.name);
            }
            let layers = set.layers();
            eprintln!(
                "{} {records}: {} fences, {:.1} bytes each in bucket-layers",
                set.name,
                set.fences.len(),
                layers.memory_bytes() as f64 / set.fences.len() as f64
            );
            let mut group = criterion.benchmark_group(format!("{}/{records}", set.name));
            group.warm_up_time(Duration::from_millis(300));
            group.measurement_time(Duration::from_secs(1));
            group.sample_size(20);
            for (name, search) in &candidates {
                let mut next = 0;
                group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                    bencher.iter(|| {
                        // The next probe depends on the answer, as a lookup's next step does.
                        next = (next + 1 + (search.rank(&set.probes[next]) >> 40)) % PROBES;
                        black_box(next)
                    });
                });
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    rank(&mut criterion);
    criterion.final_summary();
}
