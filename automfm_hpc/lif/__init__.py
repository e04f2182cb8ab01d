"""Theory of networks of leaky integrate-and-fire neurons: rates, spectra and stability without simulation."""
