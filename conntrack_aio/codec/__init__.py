"""Encode and decode the objects of the model, as their classes are declared.

The terms that the modules use:

- The **schema** of a class (:mod:`.schema`) is the tree of the attributes in its messages, derived
  from the declarations in the model.
- A **leaf** is an attribute in the schema that holds the value of a field.
- A **branch** is an attribute in the schema that only groups other attributes, or the message
  itself.
- A **fork** is an attribute in the schema whose meaning depends on the value of another attribute,
  as that of ``CTA_TIMEOUT_DATA`` depends on the protocol.
- A **nest** is an attribute that contains other attributes: a branch, or a leaf whose value is an
  object.
- A **slot** is the index of a field's value in a list of all values of an object.
- The **reference codec** (:mod:`.reference`) encodes and decodes any message by interpreting its
  schema, and defines what is correct.
- The **skeleton** of a received message (:mod:`.skeleton`) is where the value of each field is in
  it; messages with equal skeletons differ only in their values.
- A **layout** (:mod:`.layouts`) recognizes the messages of one skeleton and decodes them faster
  than the reference codec, with functions that are compiled for it (:mod:`.layout_writer`).
- The **state** of an object with lazy fields tells which of them are set. It is the object's class:
  see :mod:`conntrack_aio.model.lazy_fields`.
- The **shape** of a request consists of the types of its values, of which values are absent, and
  of the few values that decide what other attributes mean.
- A **packer** (:mod:`.packers`) is a function that is compiled for one shape and encodes requests
  faster than the reference codec.
"""
