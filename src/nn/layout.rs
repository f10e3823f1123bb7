//! What a network's numbers are called, how they are shaped and how they start.

/// A parameter of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(pub(super) usize);

/// A buffer (running statistic) of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(pub(super) usize);

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// One value.
    Constant(f64),
}

/// One named tensor of a layout.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name in files, for example `groups.0.1.conv2.weight`.
    pub name: String,
    /// The shape as PyTorch knows it.
    pub shape: Vec<i64>,
    /// How it starts.
    pub init: Init,
    /// Convolution or linear kernel: weight decay applies.
    pub decayed: bool,
    /// Part of the head, which is new for each set of classes; all else is the backbone.
    pub head: bool,
}

impl Entry {
    /// Numbers in it.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The names, shapes and starting values of a network's parameters and buffers.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    params: Vec<Entry>,
    buffers: Vec<Entry>,
    in_head: bool,
}

impl Layout {
    /// Adds a convolution or linear kernel (weight decay applies).
    pub fn kernel(&mut self, name: &str, shape: &[i64], init: Init) -> ParamId {
        self.param(name, shape, init, true)
    }

    /// Adds a vector: a bias or one of BatchNorm's parameters (no weight decay).
    pub fn vector(&mut self, name: &str, length: i64, init: Init) -> ParamId {
        self.param(name, &[length], init, false)
    }

    fn param(&mut self, name: &str, shape: &[i64], init: Init, decayed: bool) -> ParamId {
        let (name, shape, head) = (name.to_owned(), shape.to_vec(), self.in_head);
        self.params.push(Entry { name, shape, init, decayed, head });
        ParamId(self.params.len() - 1)
    }

    /// Adds a running statistic of `length` channels that starts at `value`.
    pub fn buffer(&mut self, name: &str, length: i64, value: f64) -> BufferId {
        let (init, head) = (Init::Constant(value), self.in_head);
        self.buffers.push(Entry { name: name.to_owned(), shape: vec![length], init, decayed: false, head });
        BufferId(self.buffers.len() - 1)
    }

    /// What is added from here on is the head.
    pub fn begin_head(&mut self) {
        self.in_head = true;
    }

    /// The parameters, in the order of their ids.
    pub fn params(&self) -> &[Entry] {
        &self.params
    }

    /// The buffers, in the order of their ids.
    pub fn buffers(&self) -> &[Entry] {
        &self.buffers
    }

    /// Numbers that the optimiser moves.
    pub fn parameter_count(&self) -> i64 {
        self.params.iter().map(Entry::numel).sum()
    }

    /// How many numbers each section of the flat buffer holds.
    pub(super) fn sections(&self) -> Sections {
        let mut sections = Sections::default();
        for entry in &self.params {
            *sections.of_mut(Part::of(entry)) += entry.numel();
        }
        sections
    }
}

/// Where in the flat buffer a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    BackboneKernel,
    HeadKernel,
    HeadVector,
    BackboneVector,
}

impl Part {
    /// In the order of the flat buffer: kernels are a prefix of it (weight decay), and the head is one
    /// piece in its middle (fine-tuning).
    pub(super) const ALL: [Self; 4] = [Self::BackboneKernel, Self::HeadKernel, Self::HeadVector, Self::BackboneVector];

    pub(super) fn of(entry: &Entry) -> Self {
        match (entry.decayed, entry.head) {
            (true, false) => Self::BackboneKernel,
            (true, true) => Self::HeadKernel,
            (false, true) => Self::HeadVector,
            (false, false) => Self::BackboneVector,
        }
    }
}

/// A run of numbers in the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first number.
    pub start: i64,
    /// How many.
    pub length: i64,
}

/// The lengths of the flat buffer's four parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections([i64; 4]);

impl Sections {
    fn of_mut(&mut self, part: Part) -> &mut i64 {
        &mut self.0[part as usize]
    }

    pub(super) fn start(self, part: Part) -> i64 {
        self.0[..part as usize].iter().sum()
    }

    /// From the first number of `first` to the last of `last`.
    pub(super) fn span(self, first: Part, last: Part) -> Span {
        let start = self.start(first);
        Span { start, length: self.start(last) + self.0[last as usize] - start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_a_prefix_and_the_head_is_one_piece() {
        let mut layout = Layout::default();
        layout.kernel("conv", &[2, 3], Init::Constant(0.0));
        layout.vector("bn", 5, Init::Constant(0.0));
        layout.begin_head();
        layout.kernel("fc.weight", &[2, 5], Init::Constant(0.0));
        layout.vector("fc.bias", 2, Init::Constant(0.0));
        let sections = layout.sections();
        assert_eq!(sections.span(Part::BackboneKernel, Part::HeadKernel), Span { start: 0, length: 16 });
        assert_eq!(sections.span(Part::HeadKernel, Part::HeadVector), Span { start: 6, length: 12 });
        assert_eq!(sections.span(Part::BackboneVector, Part::BackboneVector), Span { start: 18, length: 5 });
    }
}
