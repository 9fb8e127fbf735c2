"""llama.cpp's C API out of the xllamacpp wheel, through ctypes: what bench/clients/llamacpp_*.py share.

Parameter structs are opaque blocks from llama_*_default_params, of which only fields found by their defaults are changed.
"""
import ctypes as C
import glob
import os
import sys

import xllamacpp

P = C.c_void_p
LIBRARY = C.CDLL(glob.glob(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp*.so"))[0])


class Blob(C.Structure):  # larger than any parameter struct: passed and returned in memory, so the surplus is harmless
    _fields_ = [("bytes", C.c_uint8 * 1024)]


class Batch(C.Structure):
    _fields_ = [("n_tokens", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", C.POINTER(C.c_float)), ("pos", C.POINTER(C.c_int32)),
                ("n_seq_id", C.POINTER(C.c_int32)), ("seq_id", C.POINTER(C.POINTER(C.c_int32))), ("logits", C.POINTER(C.c_int8))]


def function(name, result, *arguments):
    f = getattr(LIBRARY, name)
    f.restype, f.argtypes = result, list(arguments)
    return f


_LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, P)


@_LOG
def _log(level, text, _):
    if level == 4 or os.environ.get("VERBOSE"):  # 4: errors
        sys.stderr.write(text.decode(errors="replace"))


def start():
    function("llama_log_set", None, _LOG, P)(_log, None)
    function("llama_backend_init", None)()


class Model:
    """A GGUF file and one context of `context` tokens with an f16 cache."""

    def __init__(self, path, context, threads):
        start()
        self.model = function("llama_model_load_from_file", P, C.c_char_p, Blob)(path.encode(), function("llama_model_default_params", Blob)())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        params = function("llama_context_default_params", Blob)()
        words = C.cast(C.byref(params), C.POINTER(C.c_int32))
        if words[0] not in (0, 512) or words[1] != 2048 or words[2] != 512:
            sys.exit(f"unexpected llama_context_params: {[words[i] for i in range(8)]}; this wheel needs another bench/clients/llamacpp.py")
        words[0] = -(-max(context, 64) // 256) * 256
        words[1] = max(context, 64)
        at = [i for i in range(4, 12) if words[i] == 4 and words[i + 1] == 4]  # n_threads, n_threads_batch
        if not at:
            sys.exit("llama_context_params: thread counts not found; this wheel needs another bench/clients/llamacpp.py")
        words[at[0]] = words[at[0] + 1] = threads
        self.context = function("llama_init_from_model", P, P, Blob)(self.model, params)
        if not self.context:
            sys.exit("llama.cpp made no context")
        self.memory = function("llama_get_memory", P, P)(self.context)
        self._clear = function("llama_memory_clear", None, P, C.c_bool)
        self._one = function("llama_batch_get_one", Batch, C.POINTER(C.c_int32), C.c_int32)
        self._decode = function("llama_decode", C.c_int32, P, Batch)
        self._sync = function("llama_synchronize", None, P)
        self.vocabulary = function("llama_vocab_n_tokens", C.c_int32, P)(function("llama_model_get_vocab", P, P)(self.model))

    def clear(self):
        self._clear(self.memory, True)

    def step(self, ids):
        """Appends tokens and waits for the logits of the last one."""
        array = (C.c_int32 * len(ids))(*ids)
        if self._decode(self.context, self._one(array, len(ids))) != 0:
            sys.exit("llama_decode failed")
        self._sync(self.context)

    def all_logits(self, ids):
        """Logits [len(ids), vocabulary] f32 of a window by itself; row i speaks of token i + 1."""
        import numpy as np
        self.clear()
        batch = function("llama_batch_init", Batch, C.c_int32, C.c_int32, C.c_int32)(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        if self._decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        row = function("llama_get_logits_ith", C.POINTER(C.c_float), P, C.c_int32)
        out = np.stack([np.ctypeslib.as_array(row(self.context, i), (self.vocabulary,)).copy() for i in range(len(ids))])
        function("llama_batch_free", None, Batch)(batch)
        return out

    def tokenize(self, text, add_special=False, parse_special=True):
        data = text.encode()
        out = (C.c_int32 * (len(data) + 8))()
        call = function("llama_tokenize", C.c_int32, P, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32, C.c_bool, C.c_bool)
        vocab = function("llama_model_get_vocab", P, P)(self.model)
        return list(out[:call(vocab, data, len(data), out, len(out), add_special, parse_special)])

    def finite(self):
        logits = function("llama_get_logits_ith", C.POINTER(C.c_float), P, C.c_int32)(self.context, -1)
        return all(abs(logits[i]) < 1e30 for i in range(self.vocabulary))


def system_info():
    return function("llama_print_system_info", C.c_char_p)().decode()
