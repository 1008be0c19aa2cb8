"""SDKs of earlier versions, frozen, and what they must still be able to do with the server of today."""
