"""Parts of networks: LSTM, convolution, unimodal encoders, Gaussian head, RealNVP, fusion."""
