//! How λ_U rises.

/// clip(progress / ramp, 0, 1): the share of λ_U that counts when `progress` of the run is done and the rise
/// takes `ramp` of it (the authors' linear ramp-up, given as a share of the run).
pub fn linear(progress: f64, ramp: f64) -> f64 {
    if ramp <= 0.0 { 1.0 } else { (progress / ramp).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::linear;

    #[test]
    fn it_rises_from_nothing_to_all_and_stays() {
        assert_eq!(linear(0.0, 0.5), 0.0);
        assert_eq!(linear(0.25, 0.5), 0.5);
        assert_eq!(linear(0.5, 0.5), 1.0);
        assert_eq!(linear(1.0, 0.5), 1.0);
        assert_eq!(linear(0.0, 0.0), 1.0, "no ramp is full weight from the start");
    }
}
