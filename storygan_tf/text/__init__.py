"""Sentence encoders: models that map sentences, string [n], to vectors, float32 [n, width].

Start with `sentence_encoder`, which loads an encoder and checks it. `hashed_ngram_encoder` is the encoder `embedded`
that needs no download, with the words of `tokenization`. `exported_vectorizer` loads the encoder of an exported model.
The encoder of StoryGAN's own stories is a network and belongs to `storygan_tf.models`.
"""
