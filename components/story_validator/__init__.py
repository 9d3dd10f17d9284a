"""The StoryValidator component: records held against what is expected of them."""
