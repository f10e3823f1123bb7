//! MixMatch (Berthelot et al. 2019, arXiv 1905.02249), algorithm 1 and §3.

use tch::{Kind, Tensor};

use super::algorithm::{
    Algorithm, Batch, DrawContext, StepContext, StepInputs, StepLosses, UnlabelledInputs, UnlabelledLosses,
};
use super::guess::{self, Alignment};
use super::mixup::{Mixing, Mixup};
use super::{loss, phase, ramp};
use crate::nn::device::send;
use crate::nn::{Mode, Network, NnError, Weights};

/// The algorithm with its hyper-parameters.
#[derive(Debug)]
pub struct MixMatch {
    /// How images and targets are mixed.
    pub mixup: Mixup,
    /// K: views of an unlabelled image that are averaged.
    pub k: usize,
    /// T: sharpening temperature.
    pub temperature: f64,
    /// λ_U after the ramp.
    pub lambda_u: f64,
    /// Share of the steps after the warm-up over which λ_U rises.
    pub ramp: f64,
    /// Distribution alignment of the guesses; not in the paper.
    pub alignment: Option<Alignment>,
}

impl MixMatch {
    /// q = sharpen(mean over the views of softmax(f(û_k)), T), `[B, C]`, from views `[K·B, 3, H, W]` (paper §3.2); and the mean over
    /// the batch of what is sharpened, `[C]`, before it is aligned.
    ///
    /// All views in one forward pass, without gradient, by batch statistics and without moving the running ones.
    ///
    /// # Errors
    /// libtorch's.
    pub fn guess(
        &mut self,
        network: &dyn Network,
        teacher: &Weights,
        views: &Tensor,
    ) -> Result<(Tensor, Tensor), NnError> {
        let _phase = phase::guess().entered();
        let _no_grad = tch::no_grad_guard();
        let logits = network.forward(teacher, views, Mode::Guess)?;
        let mean = guess::average_views(&logits, self.k)?;
        let said = mean.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
        let mean = match &mut self.alignment {
            Some(alignment) => alignment.apply(&mean, &said)?,
            None => mean,
        };
        Ok((guess::sharpen(&mean, self.temperature)?, said))
    }
}

impl Algorithm for MixMatch {
    fn needs_unlabelled(&self) -> bool {
        true
    }

    fn draw(&self, context: DrawContext<'_>, batch: &Batch) -> Result<StepInputs, NnError> {
        let DrawContext { augment, anchor, progress, rng } = context;
        let unlabelled =
            batch.unlabelled.as_ref().ok_or_else(|| NnError::Shim("a MixMatch step needs unlabelled images".into()))?;
        let (labelled, views) = (batch.labelled.size()[0], unlabelled.size()[0] * self.k as i64);

        // X̂ and Û: every image anew, the labelled ones too.
        let augmenting = phase::augment().entered();
        let repeated = unlabelled.f_repeat([self.k as i64, 1, 1, 1])?;
        let images = unlabelled.size()[0] as usize;
        let mut draws = augment.draw(labelled as usize, rng);
        draws.append(augment.draw_views(images, self.k, rng));
        let all = augment.apply(&Tensor::f_cat(&[&batch.labelled, &repeated], 0)?, &draws)?;
        let (x, u) = (all.f_narrow(0, 0, labelled)?, all.f_narrow(0, labelled, views)?);
        let weak = match anchor {
            Some(weak) => Some(weak.apply(&repeated, &weak.draw_views(images, self.k, rng))?),
            None => None,
        };
        drop(augmenting);

        let device = x.device();
        let mixing = self.mixup.draw((labelled + views) as usize, rng);
        let mixing = mixing.map(|pairing| pairing.on(device)).transpose()?;
        let lambda_u_value = self.lambda_u * ramp::linear(progress, self.ramp);
        let lambda_u = send(&Tensor::from(lambda_u_value as f32), device)?;
        let unlabelled = Some(UnlabelledInputs { u, weak, lambda_u, lambda_u_value });
        Ok(StepInputs { x, y: batch.targets.shallow_clone(), unlabelled, mixing })
    }

    fn losses(&mut self, context: StepContext<'_>, inputs: &StepInputs) -> Result<StepLosses, NnError> {
        let StepInputs { x, y, unlabelled, mixing } = inputs;
        let UnlabelledInputs { u, weak, lambda_u, .. } =
            unlabelled.as_ref().ok_or_else(|| NnError::Shim("a MixMatch step needs unlabelled images".into()))?;
        let (q, said) = self.guess(context.network, context.teacher, weak.as_ref().unwrap_or(u))?;
        let step = MixedStep { x, y, u, q: &q, mixing: mixing.as_ref(), lambda_u };
        let losses = step.losses(context.network, context.weights)?;
        Ok(StepLosses {
            total: losses.total,
            labelled: losses.labelled.f_detach()?,
            unlabelled: Some(UnlabelledLosses { loss: losses.unlabelled.f_detach()?, guesses: q, said }),
        })
    }

    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        self.alignment.iter().map(|alignment| ("alignment", alignment.running())).collect()
    }
}

/// What is left of a step once every random choice is made and the labels are guessed: a pure function of its fields.
#[derive(Debug)]
pub struct MixedStep<'a> {
    /// X̂: augmented labelled images `[B, 3, H, W]`.
    pub x: &'a Tensor,
    /// Their targets `[B, C]`.
    pub y: &'a Tensor,
    /// Û_1 … Û_K: augmented unlabelled images `[K·B, 3, H, W]`, view by view.
    pub u: &'a Tensor,
    /// Their sharpened guesses `[B, C]`, the same for each view.
    pub q: &'a Tensor,
    /// λ' and the partner of each of the (1 + K)·B images; none leaves them unmixed.
    pub mixing: Option<&'a Mixing>,
    /// λ_U at this step, a scalar on the device.
    pub lambda_u: &'a Tensor,
}

/// The losses of a [`MixedStep`], scalars with their graph.
#[derive(Debug)]
pub struct MixedLosses {
    /// L = L_X + λ_U·L_U.
    pub total: Tensor,
    /// L_X.
    pub labelled: Tensor,
    /// L_U.
    pub unlabelled: Tensor,
}

impl MixedStep<'_> {
    /// W = concat(X̂, Û_1 … Û_K) mixed with a permutation of itself, one forward over all, both losses (paper §3.3, §3.4).
    ///
    /// # Errors
    /// libtorch's.
    pub fn losses(&self, network: &dyn Network, weights: &Weights) -> Result<MixedLosses, NnError> {
        let (labelled, views) = (self.x.size()[0], self.u.size()[0]);
        let k = views / self.q.size()[0].max(1);
        let mixing = phase::mix().entered();
        let images = Tensor::f_cat(&[self.x, self.u], 0)?;
        let targets = Tensor::f_cat(&[self.y.shallow_clone(), self.q.f_repeat([k, 1])?], 0)?;
        let (images, targets) = match self.mixing {
            Some(mixing) => (mixing.mix(&images)?, mixing.mix(&targets)?),
            None => (images, targets),
        };
        drop(mixing);
        let _phase = phase::forward().entered();
        // One forward over all: every BatchNorm batch holds labelled and unlabelled images alike.
        let logits = network.forward(weights, &images, Mode::Train)?;
        let part = |tensor: &Tensor, start, length| tensor.f_narrow(0, start, length);
        let loss_x = loss::labelled(&part(&logits, 0, labelled)?, &part(&targets, 0, labelled)?)?;
        let loss_u = loss::unlabelled(&part(&logits, labelled, views)?, &part(&targets, labelled, views)?)?;
        let total = loss_x.f_add(&loss_u.f_mul(self.lambda_u)?)?;
        Ok(MixedLosses { total, labelled: loss_x, unlabelled: loss_u })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::augment::Augment;
    use crate::nn::weights::{Init, Layout};
    use crate::ssl::supervised::Supervised;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    /// Answers with an image's mean brightness and its negative, times its only weight where it has one: what it was shown, and by which
    /// weights, can be read from its logits.
    #[derive(Debug)]
    pub struct Brightness(pub Layout);

    impl Network for Brightness {
        fn name(&self) -> String {
            "brightness".to_owned()
        }

        fn layout(&self) -> &Layout {
            &self.0
        }

        fn forward(&self, weights: &Weights, images: &Tensor, _mode: Mode) -> Result<Tensor, NnError> {
            let mean = images.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)?;
            let mean = if weights.flat().numel() == 1 { mean.f_mul(weights.flat())? } else { mean };
            Ok(Tensor::f_stack(&[&mean, &mean.f_neg()?], 1)?)
        }

        fn fold(&self, _weights: &Weights, _side: i64) -> Result<Box<dyn crate::nn::Folded>, NnError> {
            unimplemented!("never served")
        }
    }

    /// The guesses of one step on four grey images, trained on with their brightness drawn anew.
    fn guesses(anchor: Option<&Augment>) -> Tensor {
        let network = Brightness(Layout::default());
        let weights = Weights::zeros(&network.0, Device::Cpu).unwrap();
        let greys = Tensor::from_slice(&[40u8, 90, 140, 200]).view([4, 1, 1, 1]).expand([4, 8, 8, 3], false);
        let targets = Tensor::full([4, 2], 0.5, (Kind::Float, Device::Cpu));
        let batch = Batch { labelled: greys.contiguous(), targets, unlabelled: Some(greys.contiguous()) };
        let mixup = Mixup { alpha: Some(0.75) };
        let mut algorithm = MixMatch { mixup, k: 2, temperature: 0.5, lambda_u: 1.0, ramp: 0.0, alignment: None };
        let context = DrawContext {
            augment: &Augment { brightness: 0.5, ..Augment::default() },
            anchor,
            rng: &mut ChaCha8Rng::seed_from_u64(1),
            progress: 1.0,
        };
        let inputs = algorithm.draw(context, &batch).unwrap();
        let context = StepContext { network: &network, weights: &weights, teacher: &weights };
        algorithm.losses(context, &inputs).unwrap().unlabelled.unwrap().guesses
    }

    #[test]
    fn an_anchored_guess_is_that_of_the_weak_view() {
        let plain = Tensor::from_slice(&[40f32, 90.0, 140.0, 200.0]) / 127.5 - 1.0;
        let expected = guess::sharpen(&Tensor::stack(&[&plain, &-&plain], 1).softmax(-1, Kind::Float), 0.5).unwrap();
        let off = |guesses: &Tensor| (guesses - &expected).abs().max().double_value(&[]);
        assert!(off(&guesses(Some(&Augment::default()))) < 1e-6, "guessed on something else than the weak views");
        assert!(off(&guesses(None)) > 1e-3, "without an anchor, guesses are made on what is trained on");
    }

    /// Images of one brightness each, float32 `[n, 3, 2, 2]`.
    fn plain(brightness: &[f32]) -> Tensor {
        let images = brightness.len() as i64;
        Tensor::from_slice(brightness).view([images, 1, 1, 1]).expand([images, 3, 2, 2], false).contiguous()
    }

    /// 1 / (1 + e⁻ˣ): what two logits of ½x and −½x give the first class.
    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn labels_are_guessed_by_the_teacher_and_learned_by_the_weights() {
        let mut layout = Layout::default();
        layout.kernel("loudness", &[1, 1], Init::Constant(1.0));
        let network = Brightness(layout);
        let of_loudness = |loudness: f64| {
            let weights = Weights::zeros(&network.0, Device::Cpu).unwrap();
            let _ = weights.flat().shallow_clone().fill_(loudness);
            weights
        };
        let (weights, teacher) = (of_loudness(1.0), of_loudness(3.0));
        let inputs = StepInputs {
            x: plain(&[0.2]),
            y: Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]),
            unlabelled: Some(UnlabelledInputs {
                u: plain(&[0.5, -0.25]),
                weak: None,
                lambda_u: Tensor::from(2.0f32),
                lambda_u_value: 2.0,
            }),
            mixing: None,
        };
        let mixup = Mixup { alpha: None };
        let mut algorithm = MixMatch { mixup, k: 1, temperature: 1.0, lambda_u: 2.0, ramp: 0.0, alignment: None };
        let context = StepContext { network: &network, weights: &weights, teacher: &teacher };
        let losses = algorithm.losses(context, &inputs).unwrap();
        let unlabelled = losses.unlabelled.unwrap();
        // Of each image: what the teacher guesses, and what the weights answer.
        let answers = [0.5, -0.25].map(|brightness| (sigmoid(6.0 * brightness), sigmoid(2.0 * brightness)));
        for (image, (guess, _)) in answers.iter().enumerate() {
            let found = unlabelled.guesses.double_value(&[image as i64, 0]);
            assert!((found - guess).abs() < 1e-5, "image {image}: {found}, the teacher says {guess}");
        }
        let of_guesses = answers.iter().map(|(guess, answer)| (guess - answer).powi(2)).sum::<f64>() / 2.0;
        let of_labels = -sigmoid(0.4).ln();
        for (found, expected) in [
            (&unlabelled.loss, of_guesses),
            (&losses.labelled, of_labels),
            (&losses.total, of_labels + 2.0 * of_guesses),
        ] {
            let found = found.double_value(&[]);
            assert!((found - expected).abs() < 1e-5, "{found}, expected is {expected}");
        }
    }

    #[test]
    fn guesses_weigh_more_and_more_over_the_ramp() {
        let mixup = Mixup { alpha: None };
        let algorithm = MixMatch { mixup, k: 1, temperature: 0.5, lambda_u: 8.0, ramp: 0.5, alignment: None };
        let greys = Tensor::full([2, 8, 8, 3], 100, (Kind::Uint8, Device::Cpu));
        let targets = Tensor::full([2, 2], 0.5, (Kind::Float, Device::Cpu));
        let batch = Batch { labelled: greys.shallow_clone(), targets, unlabelled: Some(greys) };
        let at = |progress: f64| {
            let context = DrawContext {
                augment: &Augment::default(),
                anchor: None,
                rng: &mut ChaCha8Rng::seed_from_u64(1),
                progress,
            };
            let drawn = algorithm.draw(context, &batch).unwrap().unlabelled.unwrap();
            (drawn.lambda_u.double_value(&[]), drawn.lambda_u_value)
        };
        assert_eq!([0.0, 0.125, 0.5, 1.0].map(at), [(0.0, 0.0), (2.0, 2.0), (8.0, 8.0), (8.0, 8.0)]);
    }

    #[test]
    fn what_the_network_says_of_the_classes_is_told_as_it_was_before_the_alignment() {
        let network = Brightness(Layout::default());
        let weights = Weights::zeros(&network.0, Device::Cpu).unwrap();
        let (mixup, alignment) = (Mixup { alpha: None }, Some(Alignment::new(vec![0.9, 0.1])));
        let mut algorithm = MixMatch { mixup, k: 1, temperature: 1.0, lambda_u: 1.0, ramp: 0.0, alignment };
        // Odds of 1 : 3.
        let (guesses, said) = algorithm.guess(&network, &weights, &plain(&[-(3f32.ln()) / 2.0])).unwrap();
        let said = Vec::<f32>::try_from(said).unwrap();
        assert!((said[0] - 0.25).abs() < 1e-5 && (said[1] - 0.75).abs() < 1e-5, "{said:?}");
        // One batch moves the running mean to .8675 and .1325: ¼ · .9/.8675 against ¾ · .1/.1325.
        let aligned = guesses.double_value(&[0, 0]);
        assert!((aligned - 0.314_229).abs() < 1e-4, "{aligned}");
    }

    /// DESIGN §4.4 f: the reference left them as they were.
    #[test]
    fn labelled_images_are_augmented_each_by_its_own_draw() {
        let greys = Tensor::full([4, 8, 8, 3], 100, (Kind::Uint8, Device::Cpu));
        let targets = Tensor::full([4, 2], 0.5, (Kind::Float, Device::Cpu));
        let batch = Batch { labelled: greys.shallow_clone(), targets, unlabelled: Some(greys) };
        let mixup = Mixup { alpha: None };
        let algorithms: [Box<dyn Algorithm>; 2] = [
            Box::new(MixMatch { mixup, k: 2, temperature: 0.5, lambda_u: 1.0, ramp: 0.0, alignment: None }),
            Box::new(Supervised { mixup }),
        ];
        for algorithm in algorithms {
            let context = DrawContext {
                augment: &Augment { brightness: 0.5, ..Augment::default() },
                anchor: Some(&Augment::default()),
                rng: &mut ChaCha8Rng::seed_from_u64(3),
                progress: 1.0,
            };
            let inputs = algorithm.draw(context, &batch).unwrap();
            let shown = inputs.x.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
            let mut shown = Vec::<f32>::try_from(shown).unwrap();
            shown.push(100.0 / 127.5 - 1.0);
            shown.sort_by(f32::total_cmp);
            assert!(
                shown.windows(2).all(|pair| pair[1] - pair[0] > 1e-3),
                "two look alike, or as they were: {shown:?}"
            );
        }
    }

    /// What the recording of a step on a GPU relies on: other inputs in the same tensors are another step.
    #[test]
    fn steps_differ_in_their_inputs_alone() {
        let network = Brightness(Layout::default());
        let weights = Weights::zeros(&network.0, Device::Cpu).unwrap();
        let context = StepContext { network: &network, weights: &weights, teacher: &weights };
        let mixup = Mixup { alpha: Some(0.75) };
        let mut algorithm = MixMatch { mixup, k: 2, temperature: 0.5, lambda_u: 9.0, ramp: 1.0, alignment: None };
        let draw = |algorithm: &MixMatch, seed: u64, progress| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let greys: Vec<u8> = (0..4).map(|_| rng.random()).collect();
            let greys = Tensor::from_slice(&greys).view([4, 1, 1, 1]).expand([4, 8, 8, 3], false).contiguous();
            let share = Tensor::from_slice(&[seed as f32 / 4.0; 4]).view([4, 1]);
            let targets = Tensor::cat(&[&share, &(1.0 - &share)], 1);
            let batch = Batch { labelled: greys.shallow_clone(), targets, unlabelled: Some(greys) };
            let augment = Augment { brightness: 0.5, ..Augment::default() };
            let anchor = Augment { brightness: 0.2, ..Augment::default() };
            let context = DrawContext { augment: &augment, anchor: Some(&anchor), rng: &mut rng, progress };
            algorithm.draw(context, &batch).unwrap()
        };
        let (first, second) = (draw(&algorithm, 1, 0.2), draw(&algorithm, 2, 0.9));
        let mut total = |inputs: &StepInputs| algorithm.losses(context, inputs).unwrap().total.double_value(&[]);
        let (before, expected) = (total(&first), total(&second));
        for (mine, new) in first.tensors().into_iter().zip(second.tensors()) {
            mine.shallow_clone().copy_(new);
        }
        assert_eq!(total(&first), expected);
        assert!((before - expected).abs() > 1e-3, "two steps alike prove nothing");
    }
}
