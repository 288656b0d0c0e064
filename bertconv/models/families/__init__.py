"""TensorFlow classes, one file for each family, called like its mapping table: roberta.toml, roberta.py.

A new family is such a file of about a hundred lines, in this order (roberta.py is the pattern):

1. Layers of its own, if it has any: a subclass of `blocks.EncoderLayer` that makes what is in a layer (`make_layers`)
   and says what is called when (`attend`, `feed`); `blocks.Encoder(settings, layer=...)` stacks it. `SelfAttention`
   takes the names of its maps (`names=("q_lin", "k_lin", "v_lin", "out_lin")`), `linear` and `norm` a name and the
   neutral id of the module, `f"{at}query"` with `at` = "layer.3.". Attributes are called as in transformers.
2. `TF<Prefix>MainLayer(MainLayer, is_family=True)`: `config_class`, `base_name`, what it takes (`model_inputs`,
   `is_cached`, `can_pool`), and `make_layers`, which sets `embeddings`, `encoder` and `pooler` in the order of
   checkpoints. `project` is for embeddings of another size than the hidden states, `pool` for another pooler.
3. `TF<Prefix>PreTrainedModel(TFPreTrainedModel)`: `config_class`, `main_layer`, `base_model_prefix`; `make_words`,
   `score_words` and `get_lm_head` for heads that predict words; where these are RoBERTa's, derive from
   `heads.words.LMHead` instead, which has them.
4. A class for every head: `class TF<Prefix>ForX(<mixin of heads/>, TF<Prefix>PreTrainedModel, is_head=True)`, called as
   the table calls it. A mixin is for a task; where the family has other layers behind the body, `make_head` and
   `logits` say so, or `is_pooled`, `dropout_keys` and `classifier_module` are set.
5. Families that share the table: a main layer and a base class of their own, and `derive(...)` for every head.

Then: the names in `bertconv/__init__.py`. The tests of every family find the file by themselves.
"""
