"""Random saves, crashes, damage, prunes and resumes against a model of what must survive.

The long form is `make chaos CHAOS=retention`.
"""

from campaigns.retention import Store, settings_of

NUM_HISTORIES = 16

TestStore = Store.TestCase
TestStore.settings = settings_of(NUM_HISTORIES)
