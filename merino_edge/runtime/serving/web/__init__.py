"""The door that speaks HTTP: OpenAI's API, a health check, figures, and a page to chat with.

The one idea: whoever connects is a stranger until shown otherwise. Every wait has an end, every
size a bound, and a client that is slow, broken or gone costs one thread and nobody's patience.
Standard library only; the order in which a request passes through the modules:

    server      accepts, bounds the connections, one thread for each
    handler     one request after the other: head, body, answer, each within its time
    access      may this client ask at all?
    endpoints   which path, which method
    asked       a body's JSON -> what is to be generated
    answering   waits for tokens, notices who left
    written     events -> OpenAI's JSON
"""
