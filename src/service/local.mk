# Locks and what surrounds them, on top of src/pg.

noinst_LIBRARIES += libservice.a
libservice_a_SOURCES =
