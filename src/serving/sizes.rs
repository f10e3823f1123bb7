//! The batch sizes that a network is run at.
//!
//! oneDNN compiles its kernels for each shape, which takes a network of 50 convolutions tenths of a second, and keeps a
//! bounded number of them: not every size from 1 to the largest can be warm. A batch of another size is run in parts of
//! these, none of it padded. cuDNN too makes its plans for each shape; but a small batch takes a GPU nearly as long as a large
//! one, so that there a batch of another size is filled up to the next of these.

/// The sizes, the smallest first.
const SIZES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// The sizes up to `most`, to be warmed.
pub fn up_to(most: usize) -> impl Iterator<Item = usize> {
    SIZES.into_iter().filter(move |&size| size <= most.max(1))
}

/// The largest size that `images`, one at least, fill, and at most `most`.
pub fn largest(images: usize, most: usize) -> usize {
    up_to(most.min(images)).last().unwrap_or(1)
}

/// `images` in parts of these sizes, the largest first, none above `most`.
pub fn parts(images: usize, most: usize) -> impl Iterator<Item = usize> {
    let mut left = images;
    std::iter::from_fn(move || {
        let part = (left > 0).then(|| largest(left, most))?;
        left -= part;
        Some(part)
    })
}

/// `images` in as few batches of these sizes as can be, none above `most`, the last one filled up: how many images are in each,
/// and its size.
pub fn filled(images: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let (whole, mut left) = (largest(usize::MAX, most), images);
    std::iter::from_fn(move || {
        let part = left.min(whole);
        let size = up_to(whole).find(|&size| size >= part)?;
        left -= part;
        (part > 0).then_some((part, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_filled_up_to_warm_sizes_and_are_as_few_as_can_be() {
        for most in [1, 7, 64, 100] {
            for images in 0..200 {
                let batches: Vec<(usize, usize)> = filled(images, most).collect();
                assert_eq!(batches.iter().map(|(part, _)| part).sum::<usize>(), images, "{images} of at most {most}");
                assert!(batches.iter().all(|(part, size)| part <= size && up_to(most).any(|warm| warm == *size)));
                assert_eq!(batches.len(), images.div_ceil(largest(usize::MAX, most)), "{images} of at most {most}");
            }
        }
        assert_eq!(filled(31, 64).collect::<Vec<_>>(), [(31, 32)]);
        assert_eq!(filled(70, 64).collect::<Vec<_>>(), [(64, 64), (6, 6)]);
    }

    #[test]
    fn parts_are_warm_sizes_and_leave_nothing_out() {
        for most in [1, 7, 64, 100] {
            for images in 0..200 {
                let parts: Vec<usize> = parts(images, most).collect();
                assert_eq!(parts.iter().sum::<usize>(), images, "{images} of at most {most}: {parts:?}");
                assert!(parts.iter().all(|part| up_to(most).any(|size| size == *part)), "{parts:?}");
            }
        }
        assert_eq!(parts(13, 64).collect::<Vec<_>>(), [12, 1]);
        assert_eq!((largest(5, 64), largest(500, 64), largest(9, 0)), (4, 64, 1));
    }
}
