"""What benches share: the parts under measurement, photos, people, results, the machine."""
