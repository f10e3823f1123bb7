//! Which network a name means: the one place that knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Kind;
use utoipa::ToSchema;

use super::resnet::{ResNet, ResNetShape, SHAPES};
use super::wrn::{Wrn, WrnShape};
use super::{Network, NnError};

/// How a network goes from its features to the classes: `linear`, one layer; `reference`, the stack of the notebooks that this grew from
/// (1000, 100, 10, classes), of `wide_resnet50_2` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One linear layer.
    #[default]
    Linear,
    /// torchvision's fc of 1000 outputs kept, then linear layers to 100, to 10 and to the classes, as the
    /// reference project stacks them; `wide_resnet50_2` only.
    Reference,
}

impl Head {
    /// The head's stable word, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Reference => "reference",
        }
    }
}

/// A network's name, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `wrn-<depth>-<width>`, `wrn4-<depth>-<width>`.
    Wrn(WrnShape),
    /// One of torchvision's.
    ResNet(ResNetShape),
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrn(shape) => shape.fmt(f),
            Self::ResNet(shape) => f.write_str(shape.name),
        }
    }
}

impl FromStr for Architecture {
    type Err = NnError;

    fn from_str(name: &str) -> Result<Self, NnError> {
        match SHAPES.iter().find(|shape| shape.name == name) {
            Some(shape) => Ok(Self::ResNet(*shape)),
            None => name.parse().map(Self::Wrn),
        }
    }
}

impl Architecture {
    /// Says whether the network takes images of `size` × `size` pixels.
    ///
    /// # Errors
    /// The sentence that says what is allowed.
    pub fn check_size(self, size: u32) -> Result<(), String> {
        match self {
            // Halved again and again: another size would work, but lose a row and a column on the way.
            Self::Wrn(shape) if !size.is_multiple_of(shape.reduction()) => {
                Err(format!("size must be a multiple of {} for {self}", shape.reduction()))
            }
            // Five halvings: below this nothing is left of the image in the last stage.
            Self::ResNet(_) if size < 32 => Err(format!("size must be at least 32 for {self}")),
            Self::Wrn(_) | Self::ResNet(_) => Ok(()),
        }
    }

    /// Says whether the network can have this head.
    ///
    /// # Errors
    /// [`NnError::Head`] when it cannot.
    pub fn check_head(self, head: Head) -> Result<(), NnError> {
        match (self, head) {
            (_, Head::Linear) | (Self::ResNet(_), Head::Reference) => Ok(()),
            (Self::Wrn(_), Head::Reference) => Err(NnError::Head { network: self.to_string(), head: head.as_str() }),
        }
    }

    /// The network for `classes` classes; activations and convolutions in the number format `compute`.
    ///
    /// # Errors
    /// [`NnError::Head`] for a head that the network cannot have.
    pub fn network(self, head: Head, classes: usize, compute: Kind) -> Result<Box<dyn Network>, NnError> {
        self.check_head(head)?;
        let classes = classes as i64;
        Ok(match self {
            Self::Wrn(shape) => Box::new(Wrn::new(shape, classes, compute)),
            Self::ResNet(shape) => Box::new(ResNet::new(shape, head, classes, compute)),
        })
    }
}

/// The network of that name with that head.
///
/// # Errors
/// [`NnError::UnknownNetwork`], [`NnError::Head`].
pub fn build(name: &str, head: Head, classes: usize, compute: Kind) -> Result<Box<dyn Network>, NnError> {
    name.parse::<Architecture>()?.network(head, classes, compute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_network_and_spells_itself() {
        for name in ["wrn-28-2", "wrn4-20-1", "wide_resnet50_2"] {
            assert_eq!(name.parse::<Architecture>().unwrap().to_string(), name);
            assert_eq!(build(name, Head::Linear, 2, Kind::Float).unwrap().name(), name);
        }
        for name in ["resnet", "wrn-27-2", "wrn-28-0", "wrn-28-17", "wrn-4-1", "wrn-106-1", "wrn-028-2", "wrn4-10-1"] {
            let refusal = name.parse::<Architecture>().unwrap_err().to_string();
            assert!(refusal.contains("wrn-28-2") && refusal.contains("wide_resnet50_2"), "{name}: {refusal}");
        }
        for name in ["wrn-10-1", "wrn-100-16", "wrn4-12-1"] {
            assert!(name.parse::<Architecture>().is_ok(), "{name}");
        }
    }

    #[test]
    fn sizes_and_heads_are_the_networks_own() {
        let (wrn, wide) =
            ("wrn-10-1".parse::<Architecture>().unwrap(), "wide_resnet50_2".parse::<Architecture>().unwrap());
        assert!(wrn.check_size(20).is_ok() && wrn.check_size(33).is_err());
        let four = "wrn4-20-1".parse::<Architecture>().unwrap();
        assert!(four.check_size(64).is_ok() && four.check_size(40).unwrap_err().contains("multiple of 16"));
        assert!(wide.check_size(33).is_ok() && wide.check_size(31).is_err());
        assert!(wide.check_head(Head::Reference).is_ok());
        let refusal = wrn.check_head(Head::Reference).unwrap_err().to_string();
        assert!(refusal.contains("wrn-10-1") && refusal.contains("linear"), "{refusal}");
    }
}
