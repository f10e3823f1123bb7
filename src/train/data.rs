//! The images of a run: packed rows as one tensor, targets, and endless seeded batches.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, TchError, Tensor};

use super::checkpoint::{CheckpointError, Snapshot};
use crate::dataset::PackedImages;
use crate::nn::device::{gpu_memory, send};

/// All images of a data set at the run's resolution, uint8 `[N, H, W, 3]`.
///
/// On a CPU the tensor looks straight into the memory-mapped file; on a GPU it is a copy that stays there,
/// so that a batch is a gather on the device. Where that would take too much of the GPU's memory, batches are gathered from the
/// file and sent.
#[derive(Debug)]
pub struct Images {
    // Declared before the mapping that it may look into: fields are dropped in this order.
    tensor: Tensor,
    packed: PackedImages,
    device: Device,
}

/// A data set takes at most one part in so many of the memory that is free on a GPU: what trains needs the rest.
const SHARE: usize = 2;

impl Images {
    /// Takes over a packed file.
    ///
    /// # Errors
    /// libtorch's, for example when the device's memory is too small.
    pub fn new(packed: PackedImages, device: Device) -> Result<Self, TchError> {
        let side = i64::from(packed.size());
        let shape = [packed.len() as i64, side, side, 3];
        let strides = [side * side * 3, side * 3, 3, 1];
        // SAFETY: the mapping holds exactly N·H·W·3 bytes, is never written to, and lives in the same struct
        // behind the tensor; nobody writes to the tensor either (it is only gathered from).
        let tensor = unsafe { Tensor::from_blob(packed.bytes().as_ptr(), &shape, &strides, Kind::Uint8, Device::Cpu) };
        let tensor = if fits(packed.bytes().len(), device) { tensor.f_to_device(device)? } else { tensor };
        Ok(Self { tensor, packed, device })
    }

    /// Whether batches come from the file although the device is another: slower.
    pub fn stay_outside(&self) -> bool {
        self.tensor.device() != self.device
    }

    /// Side of an image, pixels.
    pub fn side(&self) -> i64 {
        i64::from(self.packed.size())
    }

    /// The rows `indices`, uint8 `[len, H, W, 3]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn gather(&self, indices: &[u32]) -> Result<Tensor, TchError> {
        let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
        let indices = send(&Tensor::from_slice(&indices), self.tensor.device())?;
        send(&self.tensor.f_index_select(0, &indices)?, self.device)
    }
}

/// Whether a GPU has the room for so many bytes; a CPU always.
fn fits(bytes: usize, device: Device) -> bool {
    if !device.is_cuda() {
        return true;
    }
    // Only a thread that has used the GPU can ask for its memory.
    let memory = Tensor::f_zeros([1], (Kind::Uint8, device)).ok().and_then(|_used| gpu_memory());
    memory.is_none_or(|memory| bytes <= memory.free / SHARE)
}

/// One-hot float32 `[len, C]` of class indices.
///
/// # Errors
/// libtorch's.
pub fn one_hot(labels: &[usize], classes: usize, device: Device) -> Result<Tensor, TchError> {
    let mut values = vec![0f32; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        values[row * classes + label] = 1.0;
    }
    send(&Tensor::from_slice(&values).f_view([labels.len() as i64, classes as i64])?, device)
}

/// An endless supply of rows for batches: shuffled, each once, then shuffled anew. Batches run over the seam, so that
/// fewer images than a batch holds are no special case.
#[derive(Debug)]
pub struct Sampler {
    walks: Vec<Walk>,
    /// Whose turn it is.
    turn: usize,
}

/// One endless walk over rows.
#[derive(Debug)]
struct Walk {
    order: Vec<u32>,
    next: usize,
}

impl Sampler {
    /// Walks over `rows`; there must be one at least for [`Sampler::take`] to give any.
    pub fn new(rows: &[u32]) -> Self {
        Self::of(vec![rows.to_vec()])
    }

    /// Takes turns between the classes, each with a walk of its own: every batch holds as many of one class as of
    /// another (one more at most), however few or lopsided the labels are. Classes without a row are passed over.
    pub fn balanced(rows: &[u32], labels: &[Option<usize>], classes: usize) -> Self {
        let of_class = |class| rows.iter().copied().filter(|&row| labels[row as usize] == Some(class)).collect();
        Self::of((0..classes).map(of_class).collect())
    }

    fn of(groups: Vec<Vec<u32>>) -> Self {
        let filled = groups.into_iter().filter(|order| !order.is_empty());
        Self { walks: filled.map(|order| Walk { next: order.len(), order }).collect(), turn: 0 }
    }

    /// Puts orders and positions into a checkpoint, under names that begin with `name`.
    ///
    /// # Errors
    /// See [`Snapshot::put`].
    pub fn save(&self, name: &str, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        let next: Vec<usize> = self.walks.iter().map(|walk| walk.next).collect();
        snapshot.put(&format!("{name}.next"), &next)?;
        snapshot.put(&format!("{name}.turn"), &self.turn)?;
        for (at, walk) in self.walks.iter().enumerate() {
            let order: Vec<i64> = walk.order.iter().map(|&row| i64::from(row)).collect();
            snapshot.put_tensor(&format!("{name}.order.{at}"), &Tensor::from_slice(&order));
        }
        Ok(())
    }

    /// Takes them out again.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`] for walks over other rows.
    pub fn restore(&mut self, name: &str, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let next: Vec<usize> = snapshot.get(&format!("{name}.next"))?;
        let other = || CheckpointError::Unfit(format!("{name} walks over other rows"));
        if next.len() != self.walks.len() {
            return Err(other());
        }
        for (at, (walk, next)) in self.walks.iter_mut().zip(next).enumerate() {
            let order = Vec::<i64>::try_from(snapshot.tensor(&format!("{name}.order.{at}"))?)?;
            let order: Vec<u32> = order.into_iter().map(|row| row as u32).collect();
            let sorted = |rows: &[u32]| {
                let mut rows = rows.to_vec();
                rows.sort_unstable();
                rows
            };
            if sorted(&order) != sorted(&walk.order) || next > order.len() {
                return Err(other());
            }
            *walk = Walk { order, next };
        }
        self.turn = snapshot.get(&format!("{name}.turn"))?;
        Ok(())
    }

    /// The next `count` rows, none of them twice: a walk with fewer left begins anew, so that those wait for another round.
    /// For a sampler of one walk over as many rows at least.
    pub fn take_different(&mut self, count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        for walk in &mut self.walks {
            if walk.order.len() - walk.next < count {
                walk.next = walk.order.len();
            }
        }
        self.take(count, rng)
    }

    /// The next `count` rows.
    pub fn take(&mut self, count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !self.walks.is_empty() {
            let turn = self.turn % self.walks.len();
            taken.push(self.walks[turn].next(rng));
            self.turn = turn + 1;
        }
        taken
    }
}

impl Walk {
    /// The next row; `order` is never empty.
    fn next(&mut self, rng: &mut ChaCha8Rng) -> u32 {
        if self.next >= self.order.len() {
            self.order.shuffle(rng);
            self.next = 0;
        }
        self.next += 1;
        self.order[self.next - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_sampler_takes_each_image_once_a_round() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sampler = Sampler::new(&[3, 5, 7, 9, 11]);
        let taken = sampler.take(20, &mut rng);
        for round in taken.chunks(5) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [3, 5, 7, 9, 11]);
        }
        assert_ne!(taken[..5], taken[5..10], "the second round has the first one's order");
    }

    #[test]
    fn different_rows_are_different_though_a_round_has_a_rest() {
        let (mut rng, rows) = (ChaCha8Rng::seed_from_u64(2), (0..30).collect::<Vec<u32>>());
        let mut sampler = Sampler::new(&rows);
        let mut seen = [0; 30];
        for _ in 0..300 {
            let mut taken = sampler.take_different(20, &mut rng);
            taken.iter().for_each(|&row| seen[row as usize] += 1);
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), 20);
        }
        // 200 times each on average, with a standard deviation of 8.
        assert!(seen.iter().all(|times| (160..240).contains(times)), "{seen:?}");
    }

    #[test]
    fn nothing_to_take_from_gives_nothing() {
        assert!(Sampler::new(&[]).take(4, &mut ChaCha8Rng::seed_from_u64(0)).is_empty());
    }

    #[test]
    fn a_balanced_sampler_gives_each_class_its_share_of_every_batch() {
        // Nine of class 0, one of class 1, and a batch larger than both: the lone image comes again and again.
        let labels: Vec<Option<usize>> = (0..10).map(|row| Some(usize::from(row == 9))).collect();
        let rows: Vec<u32> = (0..10).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut sampler = Sampler::balanced(&rows, &labels, 3);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..9 {
            let batch = sampler.take(16, &mut rng);
            assert_eq!(batch.iter().filter(|&&row| row == 9).count(), 8, "{batch:?}");
            batch.into_iter().for_each(|row| *seen.entry(row).or_insert(0) += 1);
        }
        let of_class_0: Vec<i32> = (0..9).map(|row| seen[&row]).collect();
        assert_eq!(of_class_0, [8; 9], "within a class each image comes as often as another");
    }

    #[test]
    fn a_machine_without_a_gpu_has_no_memory_of_one_and_all_room() {
        assert!(fits(usize::MAX, Device::Cpu));
        // Where there is one, this thread has not used it.
        assert_eq!(gpu_memory(), None);
    }

    #[test]
    fn one_hot_rows() {
        let rows: Vec<f32> = one_hot(&[1, 0], 3, Device::Cpu).unwrap().view([-1]).try_into().unwrap();
        assert_eq!(rows, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }
}
