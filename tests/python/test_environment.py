"""The environment is what the comparisons count on: early exit in `generate`, which is lossless, and bf16."""
import unittest

from llama import torch, transformers


class Environment(unittest.TestCase):
    def test_early_exit_is_lossless(self):
        torch.manual_seed(1)
        config = transformers.LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=4,
                                          num_attention_heads=4, num_key_value_heads=2, vocab_size=61,
                                          initializer_range=0.3)
        model = transformers.LlamaForCausalLM(config).eval()
        prompt = torch.randint(0, 61, (1, 7))
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
        plain = model.generate(prompt, **options)
        early = model.generate(prompt, assistant_early_exit=2, **options)
        self.assertEqual(plain.tolist(), early.tolist())
        self.assertTrue(torch.isfinite(model.bfloat16()(prompt).logits).all())


if __name__ == "__main__":
    unittest.main()
